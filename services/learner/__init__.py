"""The learner: assembles batches, journals them, trains, publishes weights.

`loop` is the order of things. `backend` is the seam to the model, which `model` implements in one process. `batches`
makes batches of scored groups. `training` brings a backend forward, `guarding`, `publishing` and `mismatch` act between
steps, and `returning` goes back. `recovery` is everything that a restart, a rollback or a replay needs. `reports` tells
readers. The journal itself is `services.journal`.
"""
