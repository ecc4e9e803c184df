"""One job through its life: a file for each phase, and `reconciler`, which says whose turn it is."""
