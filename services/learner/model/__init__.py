"""The model behind the learner: tensors, log-probs, updates and the figures of an update."""
