"""The learner: assembles batches, journals them, trains, publishes weights.

`loop` is the order of things; `journal` the write-ahead log; `assembler` the one staleness gate; `policy`, `batch` and
`step` the model and its update; `checkpoint` what a restart begins from.
"""
