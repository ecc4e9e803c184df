"""Groups in work: taken from a lane, sampled, handed over."""
