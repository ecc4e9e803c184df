"""What the service costs, and the studies behind its defaults. Tests of these are in `benchmarks/tests`."""
