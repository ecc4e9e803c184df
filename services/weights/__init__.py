"""Published weights: version folders on disk, their manifests, and the proof that an engine really has them.

A version is an immutable folder, complete in itself: `v00000012/` with model.safetensors, config.json and
manifest.json. It appears by one rename and is never written again.
"""
