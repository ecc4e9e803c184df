"""Every objective of `OBJECTIVES` a second time: float64, plain Python loops, the formulas as they stand in the papers.

`LOSSES` has each objective's loss as a function of the rows of policy log-probs of unmasked tokens; where a paper stops
the gradient, the formula reads `frozen` rows, which a numerical derivative leaves alone. `WEIGHTS` has each
objective's k in ∇J = Σ N·k·∇log π, in closed form. Gates are those of `oracle.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sspo_core.config import OBJECTIVES
from tests.unit.sspo_core.batches import Batch, unmasked
from tests.unit.sspo_core.oracle import Rows, gate, gate_weight

Loss = Callable[[Rows, Rows, "Case", Any], float]
Weights = Callable[[Rows, "Case", Any], Rows]


@dataclass(frozen=True)
class Case:
    """What doesn't depend on the policy, by row."""

    behaviour: Rows
    advantages: list[float]
    turns: list[list[int]]
    reference: Rows
    log_partition: list[float]

    @classmethod
    def of(cls, made: Batch) -> tuple[Rows, Case]:
        """The policy's log-probs, and the rest."""
        case = cls(
            behaviour=unmasked(made.behaviour.double(), made.mask),
            advantages=made.advantages.double().tolist(),
            turns=[[int(turn) for turn in row] for row in unmasked(made.turn_ids, made.mask)],
            reference=unmasked(made.reference.double(), made.mask),
            log_partition=made.log_partition.double().tolist(),
        )
        return unmasked((made.behaviour + made.z).double(), made.mask), case

    def z(self, policy: Rows) -> Rows:
        return [[p - b for p, b in zip(p_T, b_T, strict=True)] for p_T, b_T in zip(policy, self.behaviour, strict=True)]


def negative_mean(values: Rows, config: Any) -> float:
    """−Σ N·J_it under the config's aggregation."""
    tokens, sequences = sum(len(row) for row in values), sum(bool(row) for row in values)
    mode = getattr(config, "aggregation", "seq-mean-token-mean")
    if mode == "token-mean":
        return -sum(sum(row) for row in values) / tokens
    if mode == "seq-mean-token-mean":
        return -sum(sum(row) / len(row) for row in values if row) / sequences
    return -sum(sum(row) for row in values) / sequences / (config.norm_tokens if mode == "sum-norm" else 1)


def by_sequence(values: list[float], rows: Rows) -> float:
    kept = [value for value, row in zip(values, rows, strict=True) if row]
    return -sum(kept) / len(kept)


def clipped(r: float, advantage: float, config: Any) -> float:
    """PPO's min; with a dual clip max(·, c·A) where A < 0; two-sided the clip alone."""
    cut = min(max(r, 1 - config.clip_low), 1 + config.clip_high)
    value = cut * advantage if getattr(config, "clip_sides", "one") == "two" else min(r * advantage, cut * advantage)
    dual = getattr(config, "dual_clip", None)
    return max(value, dual * advantage) if dual is not None and advantage < 0 else value


def passes(r: float, advantage: float, config: Any) -> bool:
    """Whether a ratio keeps its gradient."""
    low, high, dual = 1 - config.clip_low, 1 + config.clip_high, getattr(config, "dual_clip", None) or math.inf
    if getattr(config, "clip_sides", "one") == "two":
        return low <= r <= (high if advantage > 0 else min(high, dual))
    return r <= high if advantage > 0 else low <= r <= dual


def geometric(z_T: list[float]) -> float:
    return math.exp(sum(z_T) / len(z_T)) if z_T else 1.0


def by_turn(z_T: list[float], turns_T: list[int]) -> list[float]:
    """Ratio of every token's turn."""
    turns = {turn: geometric([z for z, t in zip(z_T, turns_T, strict=True) if t == turn]) for turn in turns_T}
    return [turns[turn] for turn in turns_T]


def levelled(level: str, z_T: list[float], turns_T: list[int]) -> list[float]:
    """Ratio that each token of a sequence sees."""
    if level == "turn":
        return by_turn(z_T, turns_T)
    if level == "token":
        return [math.exp(z) for z in z_T]
    return [geometric(z_T) if level == "geometric" else math.exp(sum(z_T))] * len(z_T)


def clip_loss(level: str) -> Loss:
    def loss(policy: Rows, frozen: Rows, case: Case, config: Any) -> float:
        rows = zip(case.z(policy), case.turns, case.advantages, strict=True)
        values = [[clipped(r, a, config) for r in levelled(level, z_T, turns_T)] for z_T, turns_T, a in rows]
        return negative_mean(values, config)

    return loss


def clip_weights(level: str) -> Weights:
    def weights(policy: Rows, case: Case, config: Any) -> Rows:
        rows = zip(case.z(policy), case.turns, case.advantages, strict=True)
        return [
            [a * r if passes(r, a, config) else 0.0 for r in levelled(level, z_T, turns_T)] for z_T, turns_T, a in rows
        ]

    return weights


def gspo_token_loss(policy: Rows, frozen: Rows, case: Case, config: Any) -> float:
    """s_it = sg[s_i]·π_it/sg[π_it]."""
    values = []
    for p_T, f_T, z_T, a in zip(policy, frozen, case.z(frozen), case.advantages, strict=True):
        s = geometric(z_T)
        values.append([clipped(s * math.exp(p - f), a, config) for p, f in zip(p_T, f_T, strict=True)])
    return negative_mean(values, config)


def score_loss(weight: Callable[[list[float], float, Any], list[float]]) -> Loss:
    """A·sg[w]·log π."""

    def loss(policy: Rows, frozen: Rows, case: Case, config: Any) -> float:
        rows = zip(policy, case.z(frozen), case.advantages, strict=True)
        values = [[a * w * p for w, p in zip(weight(z_T, a, config), p_T, strict=True)] for p_T, z_T, a in rows]
        return negative_mean(values, config)

    return loss


def score_weights(weight: Callable[[list[float], float, Any], list[float]]) -> Weights:
    def weights(policy: Rows, case: Case, config: Any) -> Rows:
        return [[a * w for w in weight(z_T, a, config)] for z_T, a in zip(case.z(policy), case.advantages, strict=True)]

    return weights


def one(z_T: list[float], advantage: float, config: Any) -> list[float]:
    return [1.0] * len(z_T)


def cispo(z_T: list[float], advantage: float, config: Any) -> list[float]:
    return [min(max(math.exp(z), 1 - config.clip_low), 1 + config.clip_high) for z in z_T]


def vespo(z_T: list[float], advantage: float, config: Any) -> list[float]:
    """φ(W) = W^c1·exp(c2·(1 − W))."""
    positive = advantage > 0
    c1 = config.power_pos if positive else config.power_neg
    c2 = config.decay_pos if positive else config.decay_neg
    w = math.exp(sum(z_T))
    return [w**c1 * math.exp(c2 * (1 - w))] * len(z_T)


def gated_loss(policy: Rows, frozen: Rows, case: Case, config: Any) -> float:
    """SAPO: A·f(r)."""
    rows = zip(case.z(policy), case.advantages, strict=True)
    return negative_mean([[a * gate(config, z, a) for z in z_T] for z_T, a in rows], config)


def gated_weights(policy: Rows, case: Case, config: Any) -> Rows:
    rows = zip(case.z(policy), case.advantages, strict=True)
    return [[a * gate(config, z, a) * gate_weight(config, z, a) for z in z_T] for z_T, a in rows]


def power_mean(values: list[float], p: float) -> float:
    if not values:
        return 1.0
    if p == 0:
        return math.exp(sum(math.log(value) for value in values) / len(values))
    return float((sum(value**p for value in values) / len(values)) ** (1 / p))


def power_loss(policy: Rows, frozen: Rows, case: Case, config: Any) -> float:
    """A·ρ_p over gates, clipped; SSPO is p = 0 without the clip."""
    p = getattr(config, "exponent", 0.0)
    values = []
    for z_T, a in zip(case.z(policy), case.advantages, strict=True):
        rho = power_mean([gate(config, z, a) for z in z_T], p)
        values.append(clipped(rho, a, config) if hasattr(config, "clip_low") else a * rho)
    return by_sequence(values, policy)


def power_weights(policy: Rows, case: Case, config: Any) -> Rows:
    p, weights = getattr(config, "exponent", 0.0), []
    for z_T, a in zip(case.z(policy), case.advantages, strict=True):
        f_T = [gate(config, z, a) for z in z_T]
        rho, total = power_mean(f_T, p), sum(f**p for f in f_T)
        kept = not hasattr(config, "clip_low") or passes(rho, a, config)
        weights.append(
            [
                kept * a * rho * len(z_T) * f**p / total * gate_weight(config, z, a)
                for f, z in zip(f_T, z_T, strict=True)
            ]
        )
    return weights


def log_clipped(z: float, advantage: float, config: Any) -> float:
    return min(z, config.clip_log_high) if advantage > 0 else max(z, -config.clip_log_low)


def gmpo_loss(policy: Rows, frozen: Rows, case: Case, config: Any) -> float:
    rows = zip(case.z(policy), case.advantages, strict=True)
    return by_sequence([a * geometric([log_clipped(z, a, config) for z in z_T]) for z_T, a in rows], policy)


def gmpo_weights(policy: Rows, case: Case, config: Any) -> Rows:
    weights = []
    for z_T, a in zip(case.z(policy), case.advantages, strict=True):
        s = geometric([log_clipped(z, a, config) for z in z_T])
        weights.append([a * s if log_clipped(z, a, config) == z else 0.0 for z in z_T])
    return weights


LAD_LEVELS = {"token": "token", "sequence_geometric": "geometric", "sequence_product": "product"}


def lad_loss(policy: Rows, frozen: Rows, case: Case, config: Any) -> float:
    """−e^u·f(W·e^−u)."""
    values = []
    for z_T, turns_T, a in zip(case.z(policy), case.turns, case.advantages, strict=True):
        target = math.exp(a / config.eta)
        values.append([])
        for w in levelled(LAD_LEVELS[config.ratio], z_T, turns_T):
            x = w / target
            jensen_shannon = 0.5 * (x * math.log(x) - (x + 1) * math.log((x + 1) / 2))
            values[-1].append(-target * (jensen_shannon if config.divergence == "jensen_shannon" else -math.log(x)))
    return negative_mean(values, config)


def lad_weights(policy: Rows, case: Case, config: Any) -> Rows:
    """−W·f'(x); a product has T tokens that each move the whole of it."""
    weights = []
    for z_T, turns_T, a in zip(case.z(policy), case.turns, case.advantages, strict=True):
        target, size = math.exp(a / config.eta), len(z_T) if config.ratio == "sequence_product" else 1
        weights.append(
            [
                size * (0.5 * w * math.log((target + w) / (2 * w)) if config.divergence == "jensen_shannon" else target)
                for w in levelled(LAD_LEVELS[config.ratio], z_T, turns_T)
            ]
        )
    return weights


def residual(policy: Rows, case: Case, config: Any) -> list[float]:
    """δ = log Z + mean log π − β·A − mean log π_ref."""
    rows = zip(policy, case.reference, case.log_partition, case.advantages, strict=True)
    return [
        log_z + sum(p_T) / len(p_T) - config.beta * a - sum(ref_T) / len(ref_T) if p_T else 0.0
        for p_T, ref_T, log_z, a in rows
    ]


def importance(z_T: list[float], config: Any) -> float:
    w = math.exp(sum(z_T))
    clip = config.importance_clip
    return w if clip is None else min(max(w, 1 - clip), 1 + clip)


def flowrl_loss(policy: Rows, frozen: Rows, case: Case, config: Any) -> float:
    weights = [importance(z_T, config) for z_T in case.z(frozen)]
    return by_sequence([-w * d * d for w, d in zip(weights, residual(policy, case, config), strict=True)], policy)


def flowrl_weights(policy: Rows, case: Case, config: Any) -> Rows:
    deltas = residual(policy, case, config)
    return [[-2 * importance(z_T, config) * d] * len(z_T) for z_T, d in zip(case.z(policy), deltas, strict=True)]


LOSSES: dict[str, Loss] = {
    "sspo": power_loss,
    "sapo": gated_loss,
    "gmpo": gmpo_loss,
    "gspo": clip_loss("geometric"),
    "gspo_token": gspo_token_loss,
    "grpo": clip_loss("token"),
    "dr_grpo": clip_loss("token"),
    "dapo": clip_loss("token"),
    "ppo": clip_loss("token"),
    "cispo": score_loss(cispo),
    "vespo": score_loss(vespo),
    "power_mean": power_loss,
    "sorl": clip_loss("turn"),
    "lad": lad_loss,
    "flowrl": flowrl_loss,
    "rloo": score_loss(one),
    "reinforce": score_loss(one),
    "reinforce_pp": clip_loss("token"),
}
WEIGHTS: dict[str, Weights] = {
    "sspo": power_weights,
    "sapo": gated_weights,
    "gmpo": gmpo_weights,
    "gspo": clip_weights("geometric"),
    "gspo_token": clip_weights("geometric"),
    "grpo": clip_weights("token"),
    "dr_grpo": clip_weights("token"),
    "dapo": clip_weights("token"),
    "ppo": clip_weights("token"),
    "cispo": score_weights(cispo),
    "vespo": score_weights(vespo),
    "power_mean": power_weights,
    "sorl": clip_weights("turn"),
    "lad": lad_weights,
    "flowrl": flowrl_weights,
    "rloo": score_weights(one),
    "reinforce": score_weights(one),
    "reinforce_pp": clip_weights("token"),
}

FIELDS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in OBJECTIVES),
    *(("grpo", {"aggregation": a, "norm_tokens": 11}) for a in ("token-mean", "seq-mean-token-sum", "sum-norm")),
    ("grpo", {"dual_clip": 1.3}),
    ("grpo", {"clip_sides": "two"}),
    ("ppo", {"clip_sides": "two", "dual_clip": 1.1, "clip_high": 0.3}),
    ("gspo", {"clip_low": 0.1, "clip_high": 0.15}),
    ("gspo", {"clip_low": 0.1, "clip_high": 0.15, "dual_clip": 1.2}),
    ("gspo_token", {"clip_low": 0.1, "clip_high": 0.15}),
    ("cispo", {"clip_low": 0.3, "clip_high": 0.2, "aggregation": "seq-mean-token-mean"}),
    ("vespo", {"power_pos": 1.0, "decay_pos": 0.0, "aggregation": "seq-mean-token-sum"}),
    *(("power_mean", {"exponent": p}) for p in (-2.0, -1.0, 0.0, 1e-6, 0.5, 3.0)),
    ("power_mean", {"exponent": 2.0, "gate": "logarctan_a", "sides": "outward", "clip_high": 0.05}),
    ("power_mean", {"exponent": -1.0, "gate": "clip", "clip_log": 0.3, "clip_low": 0.1}),
    *(("lad", {"ratio": ratio}) for ratio in ("token", "sequence_geometric")),
    ("lad", {"eta": 2.0, "divergence": "reverse_kl"}),
    ("flowrl", {"beta": 0.5, "importance_clip": None}),
    ("reinforce", {"aggregation": "sum-norm", "norm_tokens": 20}),
    ("sspo", {"gate": "sigmoid_norm", "tau_pos": 10.0, "tau_neg": 12.0, "sides": "outward"}),
]
"""Every objective with its defaults, and with the fields that change its formula."""
