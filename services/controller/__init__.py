"""The controller: compares what is wanted with what runs, and acts.

One Ray driver. `loop` looks at every job a few times a second. `job` takes one job through its life, `workers` starts
and replaces its Ray actors, and `issuing` issues groups and evaluations. `validation` checks a job's files, `closing`
ends its journal, and `results` registers its model. Only the CLI imports this package.
"""
