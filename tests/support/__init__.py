"""What several tests build on: tiny models and scored groups."""
