"""The store of a job: record and transitions, events, steps, workers, operations."""
