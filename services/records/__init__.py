"""The records of the service as typed models: steps, drift, samples, evaluations, checkpoints, workers."""
