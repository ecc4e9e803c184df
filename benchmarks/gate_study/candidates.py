"""The objectives that are compared, by name, as the objective block of a job."""

from __future__ import annotations

from typing import Any

TAUS = ((1.0, 1.05), (3.0, 3.5), (10.0, 12.0))
"""(τ_pos, τ_neg): SAPO's own, the present default, the best of arXiv 2602.19345."""
GATES = ("sigmoid_norm", "erf", "arctan", "softsign", "logarctan_a", "logarctan_b")
"""Gates with f(1) = 1, which may be outward."""
SAPO_GATES = ("sigmoid_norm", "logarctan_a")
"""Under SAPO sigmoid_norm is its own gate: the constant between the two has no gradient."""
SMALLEST_TAU = {"logarctan_b": 1.6}

Objective = dict[str, Any]


def label(family: str, gate: str, sides: str, tau: float) -> str:
    return f"{family} {gate} {sides} {tau:g}"


def _gated(family: str, gate: str, sides: str, taus: tuple[float, float]) -> Objective:
    return {"name": family, "gate": gate, "sides": sides, "tau_pos": taus[0], "tau_neg": taus[1]}


def _soft() -> dict[str, Objective]:
    found = {}
    for family, gates in (("sspo", GATES), ("sapo", SAPO_GATES)):
        for gate in gates:
            for taus in TAUS:
                for sides in ("both", "outward"):
                    if taus[0] > SMALLEST_TAU.get(gate, 0.0):
                        found[label(family, gate, sides, taus[0])] = _gated(family, gate, sides, taus)
    for taus in TAUS:
        found[label("sspo", "sigmoid_raw", "both", taus[0])] = _gated("sspo", "sigmoid_raw", "both", taus)
    found["sspo sigmoid_shifted both"] = {"name": "sspo", "gate": "sigmoid_shifted"}
    found["sspo identity"] = {"name": "sspo", "gate": "identity"}
    return found


HARD: dict[str, Objective] = {
    "grpo": {"name": "grpo"},
    "grpo no clip": {"name": "grpo", "clip_low": 0.999999, "clip_high": 1e6},
    "gmpo": {"name": "gmpo"},
    "gspo": {"name": "gspo"},
    "gspo 0.05": {"name": "gspo", "clip_low": 0.05, "clip_high": 0.05},
    "cispo": {"name": "cispo", "aggregation": "seq-mean-token-mean"},
    "vespo": {"name": "vespo", "aggregation": "seq-mean-token-mean"},
    "reinforce": {"name": "reinforce", "aggregation": "seq-mean-token-mean"},
}
"""What they are compared with. One aggregation for all, so that only the weights differ."""

OBJECTIVES: dict[str, Objective] = _soft() | HARD
"""Name → objective block."""
