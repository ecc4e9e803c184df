"""Diagnostics of the importance ratios of a batch: counts, figures, readings of single tokens."""
