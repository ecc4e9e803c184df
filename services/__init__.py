"""The SSPO service: every process, and what they share (see the table of folders in CONTRIBUTING.md)."""
