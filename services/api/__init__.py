"""The REST API: writes what is wanted, reads what is so. Loads no torch, ray, vllm or transformers."""
