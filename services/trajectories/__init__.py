"""The trajectory path: codec, streams with leases and atomic hand-over, dead letters, ledger, the learner's progress.

Promise: a group is always in exactly one stream until the learner finishes its number, and a number is finished once.
"""
