"""The controller: compares what is wanted with what runs, and acts.

One Ray driver. `loop` looks at every job a few times a second; `job` takes one job through its life; `fleet` knows the
actors of a job; `dispatcher` issues groups within `capacity`; `validation`, `evaluation` and `closing` are what their
names say. Only the CLI imports this package.
"""
