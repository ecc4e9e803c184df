"""Issues work: prompts, as many as there is capacity for, and evaluations."""
