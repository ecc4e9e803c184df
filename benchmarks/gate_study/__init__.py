"""The gate study: which soft gate, on which sides and with which temperatures, the service starts with.

    python -m benchmarks.gate_study simulated | screen | finals | tables | plots

Two measurements. On simulated drift (`drift.py`, `simulated.py`) the true gradient is known exactly, so bias and
variance of an objective's gradient are too. On a small learning task (`task.py`) the product's own learner step trains
a small model on samples of a policy that is 0, 4 or 16 steps old. `rule.md` says how the choice follows from the
results; it was committed before the final runs.
"""
