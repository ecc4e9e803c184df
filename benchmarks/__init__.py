"""Measurements of what the service costs, and the studies behind its defaults. Their tests are in
`benchmarks/tests`."""
