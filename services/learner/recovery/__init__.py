"""What makes a killed learner go on where it was: books, checkpoints, restore, attempts, retention, replay."""
