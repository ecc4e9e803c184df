"""The drift study: five ways in which a job goes wrong, injected, and whether service and guard name and survive them.

    python -m benchmarks.drift_study run | plots | table

The product's own learner trains a small model (journal, Redis, published weights, guard), and the engines are small
ones in torch that do something wrong on purpose: nothing in the product can be told to. `docs/drift.md` has the
results.
"""
