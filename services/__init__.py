"""The SSPO service: every process, and what they share (see the folder list in README.md)."""
