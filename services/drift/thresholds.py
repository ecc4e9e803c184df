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
"""Mean staleness from which it is named as what makes the drift."""
STALE_KL_K3 = 0.02
"""And k3 from which it is worth naming: a job may choose its staleness."""
LATE_STEPS = 1.0
"""Steps by which sampled weights are behind those published when their groups were issued."""

# --- what the engine does
MISMATCH_NAMED_KL_K3 = 1e-6
"""k3 under the very weights that sampled, below which engine and learner are as good as equal."""
MISMATCH_SHARE = 0.5
"""Share of the whole deviation from which it is named as the larger part."""
NOTICED_KL_K3 = 1e-4
"""k3 of a step above which its parts are worth a word."""
BEHIND_VERSIONS = 2.0
"""Versions that a worker may serve below the newest,"""
BEHIND_SECONDS = 5.0
"""or as many as are published in this time: workers say once a second what they serve, and have to load it first."""
CANARY_SECONDS = 900.0
"""How long after an engine failed its canary it is still what is wrong."""
SURPRISE_ERRORS = 5.0
"""Standard errors by which sampled tokens may be less or more surprising than the policy's entropy says."""
SURPRISE_NATS = 0.01
"""And at least so many nats a token."""
SURPRISE_TOKENS = 1000
"""On so many tokens: on few of them nothing rare happens, and the standard error looks smaller than it is."""
TEMPERATURE_CORRELATION = 0.8
"""Between log ratio and surprise: a wrong temperature makes the one a line over the other."""
TEMPERATURE_SLOPE = 0.02
"""And the line at least so steep: a temperature 2 % off."""
ONE_SIDED_RATIO = 1.001
"""No ratio is above it where log-probs are those of a truncated distribution; float32 and bf16 noise is on both
sides."""
ONE_SIDED_KL_K1 = 1e-3
"""And their mean is as far from 0 as this: −log of the kept mass."""

# --- the task, the gate, the queues
GATE_SATURATED = 0.5
"""Share of tokens that the gate takes nine tenths of the gradient from."""
FLAT_GROUPS = 0.8
"""Share of groups whose rewards are all equal."""
WAITING_SHARE = 0.5
"""Share of its time that a learner waits for batches."""
GRADER_FAILED = 0.05
"""Share of groups dropped because a grader failed."""
WASTED_SHARE = 0.2
"""Share of sampled tokens that nobody trains."""
