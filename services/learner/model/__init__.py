"""The model behind the learner: tensors, log-probs, updates, and what an update says of itself."""
