"""The learner: assembles batches, journals them, trains, publishes weights.

`loop` is the order of things. `record`, `journal`, `lineage` and `books` are the write-ahead log: bytes, commits, what
headers mean together, what Redis is told. `assembler` and `batch_wait` make batches; `policy`, `batch`, `step` and
`training` are the model and its update; `checkpoint`, `checkpoint_writer` and `retention` what a restart begins from and
what stays on disk; `restore` and `attempts` how it gets to where the journal ends; `result` and `replay` prove steps.
"""
