"""What figures of drift mean: the guard that acts on them, and the findings that explain them."""
