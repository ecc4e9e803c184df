"""The work of routes on jobs: creating, recognising repeats, explaining, trying graders."""
