"""Support for tests and benchmarks: a private Redis, and jobs around engines in plain torch.

Both import from here and not from each other. Nothing here is installed, and no service imports it.
"""
