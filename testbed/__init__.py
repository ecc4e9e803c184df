"""What tests and benchmarks both stand on: a private Redis, and jobs around engines in plain torch.

Both import from here, and never from each other. Nothing here is installed, and no service imports it.
"""
