"""Rules on engines: differences between engine and learner under the same weights.

Two questions tell what is wrong with an engine. Do ratios lie on both sides of 1? Are sampled tokens as surprising as
the policy's entropy says? The second must hold for every engine that samples from the policy, whatever log-probs it
returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from services.drift import thresholds as at
from services.drift.findings import Evidence, Finding, Rule, Severity, Surroundings, mean, percent, weighted
from services.job import guard
from services.job.spec import JobSpec
from services.records.drift import Mismatch
from services.records.step import StepRecord


@dataclass(frozen=True)
class EngineMismatch:
    """The engine mismatch of a window, all its measurements together."""

    tokens: float
    kl_k1: float
    kl_k3: float
    ratio_max: float
    excess: float
    excess_error: float
    slope: float
    correlation: float

    @property
    def is_truncated(self) -> bool:
        """Whether no sampled token is less likely to the engine than to the learner: it spreads the mass that it cut
        off."""
        return self.ratio_max <= at.ONE_SIDED_RATIO and self.kl_k1 >= at.ONE_SIDED_KL_K1

    @property
    def is_tempered(self) -> bool:
        """The log ratio is a line over the surprise, as another temperature makes it."""
        steep = abs(self.slope) >= at.TEMPERATURE_SLOPE
        return steep and abs(self.correlation) >= at.TEMPERATURE_CORRELATION and not self.is_truncated

    @property
    def is_surprising(self) -> bool:
        """Sampled tokens are more or less surprising than the policy's entropy says."""
        noticed = abs(self.excess) >= at.SURPRISE_NATS and self.tokens >= at.SURPRISE_TOKENS
        return noticed and abs(self.excess) >= at.SURPRISE_ERRORS * self.excess_error

    def evidence(self) -> dict[str, float]:
        """The figures that are finite."""
        return {f"mismatch_{name}": value for name, value in asdict(self).items() if math.isfinite(value)}


def mismatch_of(window: Sequence[StepRecord]) -> EngineMismatch | None:
    """Mismatch over all measurements in a window; None without any."""
    found = [one for record in window if (one := record.drift.mismatch) is not None and one.tokens]
    places = [(one.source, index if one.step is None else one.step) for index, one in enumerate(found)]
    measured = [(one.tokens or 0.0, one) for one in dict(zip(places, found, strict=True)).values()]
    if not measured:
        return None

    def over(figure: Callable[[Mismatch], float | None]) -> float:
        return weighted([(tokens, figure(one)) for tokens, one in measured]) or 0.0

    tokens = sum(tokens for tokens, _ in measured)
    squares = sum((tokens * (one.surprise_excess_error or 0.0)) ** 2 for tokens, one in measured)
    return EngineMismatch(
        tokens=tokens,
        kl_k1=over(lambda one: one.kl_k1),
        kl_k3=over(lambda one: one.kl_k3),
        ratio_max=max(one.ratio_max or math.inf for _, one in measured),
        excess=over(lambda one: one.surprise_excess),
        excess_error=math.sqrt(squares) / tokens,
        slope=over(lambda one: one.surprise_slope),
        correlation=over(lambda one: one.surprise_correlation),
    )


def stale_engine(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """An engine without the weights that it should have."""
    rollouts = [worker for worker in around.workers if worker.kind == "rollout" and worker.state == "ready"]
    tolerated = max(at.BEHIND_VERSIONS, at.BEHIND_SECONDS * _steps_per_second(window))
    behind = [one.id for one in rollouts if one.policy_version < around.policy_version - tolerated]
    evidence: Evidence = {"canary_failures": around.canary_failures, "workers_behind": behind}
    if around.canary_failures and around.canary_quiet_seconds < at.CANARY_SECONDS:
        text = (
            f"{around.canary_failures} times an engine did not answer its canary as the weights it was given must: it "
            "had others. Nothing that it sampled under them was handed over, and it was replaced. If it happens again, "
            "look at that node's disk and memory."
        )
        return Finding("stale_engine", "An engine had wrong weights, and its canary caught it", text, "error", evidence)
    if behind and len(behind) < len(rollouts):
        named, newest = ", ".join(behind), around.policy_version
        text = f"{named} serve weights more than {tolerated:.0f} versions behind {newest}, others do not."
        return Finding("engine_behind", "Some engines are behind the others", text, "warn", evidence)
    return None


def _steps_per_second(window: Sequence[StepRecord]) -> float:
    times = [record.time for record in window if record.time is not None]
    return (len(times) - 1) / max(times[-1] - times[0], 1e-3) if len(times) > 1 else 0.0


def engine_sampling(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """An engine that samples from another distribution than the job asks for."""
    found = mismatch_of(window)
    if found is None:
        return None
    if found.is_truncated:
        text = (
            "Every ratio is at most 1 under the very weights that sampled: the engine's log-probs are those of a "
            f"distribution without its tail, about {percent(math.exp(-found.kl_k1))} of it kept. Switch off top_p, "
            "top_k and min_p in the engine's own defaults (generation_config.json): the learner can't replay them."
        )
        return Finding("truncated_sampling", "The engine truncates its sampling", text, "error", found.evidence())
    if found.is_tempered:
        engine = spec.rollout.temperature / (1.0 + found.slope)
        text = (
            f"Under the very weights that sampled, log ratios follow the tokens' surprise: the engine samples at a "
            f"temperature near {engine:.2f}, and the job says {spec.rollout.temperature:g}. Set rollout.temperature to "
            "what the engine does, or the other way round."
        )
        evidence = {**found.evidence(), "temperature": engine}
        return Finding("sampling_temperature", "The engine samples at another temperature", text, "error", evidence)
    if found.is_surprising:
        tokens, likely = (
            ("likely", "a lower temperature or a truncation")
            if found.excess < 0
            else ("unlikely", "a higher temperature")
        )
        text = (
            f"Sampled tokens are too {tokens}: by {abs(found.excess):.2g} nats a token against the policy's entropy, "
            f"yet the log-probs that came with them do not say so. That is {likely} whose log-probs are the raw "
            "model's: have the engine return those of the distribution that it samples from."
        )
        selected = spec.learner.drop_uninformative_groups or any(record.staleness_max for record in window)
        if selected:
            text += (
                " Or it is what was selected: groups that ended within one version, short ones, or those with unequal "
                "rewards are not as surprising as all are."
            )
        severity: Severity = "info" if selected else "error"
        return Finding("hidden_sampling", "The engine hides how it samples", text, severity, found.evidence())
    return None


def engine_numerics(spec: JobSpec, window: Sequence[StepRecord], around: Surroundings) -> Finding | None:
    """An engine that computes the same with other numbers, and how much of the deviation that is."""
    found = mismatch_of(window)
    if not window:
        return None
    if found is None:
        text = (
            "No tokens were recomputed under the weights that sampled them, so nobody can say what part of the "
            "deviation is the engine's. Switch on learner.mismatch_probe_every, or let it come round."
        )
        return Finding("mismatch_unknown", "The engine mismatch is unknown", text, "info")
    if found.kl_k3 < at.MISMATCH_NAMED_KL_K3 or found.is_truncated or found.is_tempered or found.is_surprising:
        return None
    share = mean([record.drift.drift_share for record in window])
    engine = 1.0 - share if share is not None else 0.0
    cure = (
        "engine and learner compute in float32, so it is their kernels: compare the engine's model code"
        if spec.rollout.dtype == "float32"
        else f"{spec.rollout.dtype} engine, float32 learner; set rollout.dtype to float32, or bear it with the gate"
    )
    text = f"{percent(engine)} of the deviation is engine mismatch (k3 {found.kl_k3:.2g}, both sides of 1): {cure}."
    loud = found.kl_k3 >= guard.MISMATCH_KL_K3.enter or (
        engine >= at.MISMATCH_SHARE and found.kl_k3 >= at.NOTICED_KL_K3
    )
    evidence = {**found.evidence(), "engine_share": engine}
    return Finding("engine_numerics", "The engine computes differently", text, "warn" if loud else "info", evidence)


RULES: tuple[Rule, ...] = (stale_engine, engine_sampling, engine_numerics)
