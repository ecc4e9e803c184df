"""Logs, metrics and meters."""
