"""What the store keeps of a job: record and transitions, events, steps, workers, operations."""
