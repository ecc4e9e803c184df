"""What the service says of itself, as typed models: steps, drift, samples, evaluations, checkpoints, workers."""
