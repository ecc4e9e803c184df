"""The learner: assembles batches, journals them, trains, publishes weights.

`loop` is the order of things. `record`, `journal`, `lineage` and `books` are the write-ahead log: bytes, commits, what
headers mean together, what Redis is told. `assembler` and `batch_wait` make batches; `policy`, `batch`, `step` and
`training` the model and its update; `checkpoint`, `checkpoint_writer` and `retention` what a restart begins from and
what stays; `restore` and `attempts` are the way to where the journal ends; `result` and `replay` prove a step.
"""
