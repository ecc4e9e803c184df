"""What routes do with jobs: creating, repeating, explaining, looking."""
