"""Dead letters: messages nobody could read, kept for people."""
