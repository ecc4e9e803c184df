"""What is handed to workers: prompts, how many of them, and evaluations."""
