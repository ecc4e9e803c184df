"""A killed learner goes on where it was: books, checkpoints, restore, attempts, retention, replay."""
