"""What a batch says of its importance ratios: counts, figures, readings of single tokens."""
