"""The pages: each builds its elements once, and draws each look that comes."""
