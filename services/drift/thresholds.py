"""The numbers by which findings and alert rules judge figures, measured on small jobs (docs/drift.md).

Limits that a job's guard has defaults for are in `services.job.guard`.
"""

from __future__ import annotations

# --- what moves the policy
WITHIN_STEP_KL_K3 = 0.01
"""k3 that one update adds to tokens of the same staleness: above it a learning rate is too high. A job that learns well
has 1e-4 to 3e-3."""
PER_STEP_KL_K3 = 0.02
"""k3 that one step of staleness adds, for jobs with one update a step."""
STALE_STEPS = 4.0
"""Mean staleness above which an explanation names it as the cause of drift."""
STALE_KL_K3 = 0.02
"""k3 that the step must also exceed: a job may choose its staleness, and without drift it is no problem."""
LATE_STEPS = 1.0
"""Steps by which sampled weights are behind those published when their groups were issued."""

# --- what the engine does
MISMATCH_NAMED_KL_K3 = 1e-6
"""k3 under the very weights that sampled, below which engine and learner are as good as equal."""
MISMATCH_SHARE = 0.5
"""Share of the whole deviation above which the mismatch is named as the larger part."""
NOTICED_KL_K3 = 1e-4
"""k3 of a step above which its parts are worth a word."""
BEHIND_VERSIONS = 2.0
"""Versions by which a worker may be behind the newest."""
BEHIND_SECONDS = 5.0
"""A worker may also be behind by as many versions as are published in this time: it reports once a second, and has to
load a version first."""
CANARY_SECONDS = 900.0
"""Time after a failed canary for which it is still named as the trouble."""
SURPRISE_ERRORS = 5.0
"""Standard errors by which sampled tokens may be less or more surprising than the policy's entropy says."""
SURPRISE_NATS = 0.01
"""The difference must also be at least so many nats a token."""
SURPRISE_TOKENS = 1000
"""Tokens that the judgement needs: among few tokens nothing rare happens, and the standard error looks too small."""
TEMPERATURE_CORRELATION = 0.8
"""Least correlation of log ratio and surprise: under a wrong temperature one is a line over the other."""
TEMPERATURE_SLOPE = 0.02
"""The least slope of that line: a temperature that is 2 % off."""
ONE_SIDED_RATIO = 1.001
"""Largest ratio of an engine that truncates: rounding alone gives ratios on both sides of 1."""
ONE_SIDED_KL_K1 = 1e-3
"""Least k1 of such an engine, whose true value is −log of the kept mass."""

# --- the task, the gate, the queues
GATE_SATURATED = 0.5
"""Share of tokens that lose nine tenths of their gradient to the gate."""
FLAT_GROUPS = 0.8
"""Share of groups whose rewards are all equal."""
WAITING_SHARE = 0.5
"""Share of its time that a learner waits for batches."""
GRADER_FAILED = 0.05
"""Share of groups dropped because a grader failed."""
WASTED_SHARE = 0.2
"""Share of sampled tokens that nobody trains."""
