"""The `sspo` command."""
