"""Step records and samples as a learner writes them, from ratios that are drawn at random.

Log ratios are wider with every step of staleness, and slowly wider as training goes on. Figures, histograms and gate
weights are made by the code that makes them in a learner, the guard's word by the guard.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from services.drift.guard import Figures, GuardState, decide
from services.job.spec import JobSpec, objective_config
from services.learner.model.drift_table import DriftTable
from services.records.samples import SampledGroup, SampledTrajectory
from services.records.step import StepRecord
from sspo_core import LossInputs, policy_loss
from tests.browser.texts import ANSWERS, PROMPT

SEQUENCES, TOKENS = 24, 20


@dataclass(frozen=True)
class Course:
    """How a job goes."""

    drift: float = 0.03
    """Standard deviation of log ratios that one step of staleness adds, at the start."""
    growth: float = 1.5
    """By how much that has grown at the end."""
    ceiling: float = 0.86
    """What the reward comes to."""


class Records:
    """Makes the records of one job, in the order of its steps. `now`: when the next begins."""

    def __init__(self, spec: JobSpec, course: Course, now: float) -> None:
        self.now = now
        self._spec, self._course = spec, course
        self._config = objective_config(spec.objective)
        self._random = torch.Generator().manual_seed(spec.seed)
        self._window: list[Figures] = []
        self._guard = GuardState()

    def step(self, step: int) -> StepRecord:
        """What a learner says of a step."""
        done, oldest = step / self._spec.learner.steps, self._spec.learner.max_staleness
        ages = [min(oldest, int(-1.1 * math.log(1 - 0.999 * self._uniform()))) for _ in range(SEQUENCES)]
        table = DriftTable()
        table.add(policy_loss(self._ratios(done, ages), self._config), update=0)
        reward = self.reward(step)
        said = {
            "step": step,
            "replayed": False,
            "groups": 16,
            "reward_mean": reward,
            "reward_std": math.sqrt(max(0.0, reward * (1 - reward))) * 0.6,
            "reward_zero_variance_groups_ratio": 0.2 + 0.4 * done,
            "loss": 0.02 * self._normal(),
            "grad_norm": 0.4 + 0.1 * abs(self._normal()),
            "learning_rate": self._spec.learner.learning_rate,
            "updates": 1,
            "skipped_updates_total": 0,
            "tokens": 16 * SEQUENCES * TOKENS,
            "completion_tokens_mean": 20.0 + 3 * done,
            "staleness_mean": sum(ages) / len(ages),
            "staleness_max": max(ages),
            "drift": table.figures().plain(),
            "epoch": 1,
            "policy_version": step + 2,
            **self._times(step),
        }
        record = StepRecord.model_validate(said)
        self._window = [*self._window, Figures.of(step, record)][-self._spec.guard.window_steps :]
        decision = decide(self._window, self._guard, self._spec.guard)
        self._guard = decision.state
        return record.model_copy(update={"guard": decision.view()})

    def sample(self, step: int) -> SampledGroup:
        """A group that was kept to be looked at."""
        rows = tuple(self._trajectory(step + 1, place, *answer) for place, answer in enumerate(ANSWERS))
        return SampledGroup(step=step, group_number=step * 16, prompt=PROMPT, trajectories=rows)

    def reward(self, step: int) -> float:
        """Rises towards the ceiling."""
        rise = 1 - math.exp(-3.2 * step / self._spec.learner.steps)
        return min(1.0, max(0.0, 0.08 + (self._course.ceiling - 0.08) * rise + 0.025 * self._normal()))

    def _times(self, step: int) -> dict[str, Any]:
        waited = max(0.05, 0.6 + 0.5 * self._normal())
        seconds = 5.0 + 0.5 * abs(self._normal())
        self.now += seconds + waited
        waits = {
            "batch": waited,
            "staleness": 0.2 if self._uniform() < 0.1 else 0.0,
            "publish": 0.3 + 0.05 * self._uniform(),
            "checkpoint": 0.4 if step % 50 == 49 else 0.0,
        }
        return {"time": self.now, "wait_seconds": waited, "seconds": seconds, "waits": waits}

    def _ratios(self, done: float, ages: list[int]) -> LossInputs:
        shape = (SEQUENCES, TOKENS)
        width = self._course.drift * (1 + self._course.growth * done) * torch.tensor(ages).double()[:, None] + 0.0008
        tails = torch.randn(shape, generator=self._random, dtype=torch.float64)
        heavy = torch.rand(shape, generator=self._random, dtype=torch.float64)
        behaviour = -0.1 - torch.rand(shape, generator=self._random, dtype=torch.float64)
        return LossInputs(
            policy_logprobs=behaviour + width * (tails * (1 + 3 * (heavy > 0.95)) - 0.15),
            behaviour_logprobs=behaviour,
            advantages=torch.where(torch.arange(SEQUENCES) % 2 == 0, 0.9, -0.9).double(),
            mask=torch.ones(shape),
            buckets=ages,
        )

    def _trajectory(self, newest: int, place: int, reward: float, text: str) -> SampledTrajectory:
        tokens = [part if number == 0 else f" {part}" for number, part in enumerate(text.split(" "))]
        age, half = place % (self._spec.learner.max_staleness + 1), len(tokens) // 2
        wide = self._course.drift * 6 * age + 0.001
        z = [round(wide * self._normal() * (2.5 if self._uniform() > 0.9 else 0.6), 5) for _ in tokens]
        sign = 1.0 if reward > 0.5 else -1.0
        inputs = LossInputs(
            policy_logprobs=torch.tensor([z]).double(),
            behaviour_logprobs=torch.zeros(1, len(z)).double(),
            advantages=torch.tensor([sign]).double(),
            mask=torch.ones(1, len(z)),
        )
        weights = policy_loss(inputs, self._config).tokens
        older, newer = max(1, newest - age), max(1, newest - max(0, age - 1))
        return SampledTrajectory(
            reward=reward,
            advantage=round(sign * (0.6 + 0.5 * self._uniform()), 5),
            tokens=tuple(tokens),
            log_ratios=tuple(z),
            weights=tuple(round(float(weight), 5) for weight in weights.weight[0]) if weights is not None else (),
            versions=(older,) * half + (newer,) * (len(tokens) - half),
        )

    def _normal(self) -> float:
        return float(torch.randn(1, generator=self._random))

    def _uniform(self) -> float:
        return float(torch.rand(1, generator=self._random))
