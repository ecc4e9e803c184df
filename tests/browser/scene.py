"""Jobs as a learner, a controller and workers would leave them in Redis and on disk, without running any.

The ratios are drawn at random: wider with every step of staleness, slowly wider as training goes on. Their figures,
histograms, gate weights and the gate's curve are made by the code that makes them in a learner.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from services.files import append_line
from services.layout import Layout
from services.learner.figures import DriftTable
from services.learner.samples import write_gate_curve
from services.observability.guard import Figures, GuardState, decide
from services.observability.guard_spec import GuardAction, GuardSpec
from services.spec import DEFAULT_GATE, EvaluationSpec, JobSpec, LearnerSpec, RewardSpec, RolloutSpec, objective_config
from services.store.client import Client
from services.store.events import Events
from services.store.jobs import JobRecord, Jobs
from services.store.registry import Registry, WorkerKind, WorkerRecord, WorkerState
from services.store.steps import Checkpoints, Evaluations, Steps
from services.store.transitions import Status
from services.trajectories import streams
from services.trajectories.progress import Progress
from sspo_core import LossInputs, policy_loss
from tests.browser.texts import ANSWERS, PROMPT

GRADER = {
    "type": "string_check",
    "name": "exact",
    "operation": "eq",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
}
SEQUENCES, TOKENS = 24, 20
WAYS = {Status.QUEUED: [], Status.PAUSED: [Status.QUEUED, Status.RUNNING, Status.PAUSING]}
"""How a job comes to a state, where it isn't through queued and running."""


@dataclass
class Scene:
    """One job, and what it takes to let it go on."""

    client: Client
    layout: Layout
    job_id: str
    steps: int = 400
    objective: dict[str, Any] = field(default_factory=lambda: {"name": "sspo", **DEFAULT_GATE})
    drift: float = 0.03
    """Standard deviation of log ratios that one step of staleness adds, at the start."""
    growth: float = 1.5
    """By how much that has grown at the end."""
    ceiling: float = 0.86
    """What the reward comes to."""
    max_staleness: int = 3
    guard: tuple[GuardAction, ...] = ("warn",)
    suffix: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        objective = {"name": self.objective["name"], **vars(objective_config(dict(self.objective)))}
        self.spec = JobSpec(
            job_id=self.job_id,
            model="sspo-demo",
            training_file="file-train",
            validation_file="file-valid",
            seed=self.seed,
            grader=GRADER,
            objective=objective,
            rollout=RolloutSpec(workers=2, group_size=8, max_tokens=64),
            learner=LearnerSpec(steps=self.steps, batch_size=16, max_staleness=self.max_staleness),
            reward=RewardSpec(),
            evaluation=EvaluationSpec(every=20),
            guard=GuardSpec(actions=self.guard),
        )
        self._window: list[Figures] = []
        self._guarding = GuardState()
        self._random = torch.Generator().manual_seed(self.seed)
        self._config = objective_config(self.spec.objective)
        self._now = time.time()

    def create(self, status: Status = Status.RUNNING, *, age_seconds: float = 4000.0) -> None:
        """The job's record, in a state; nothing else."""
        self._now = time.time() - age_seconds
        request = {"method": {"type": "reinforcement", "reinforcement": {"grader": GRADER}}, "suffix": self.suffix}
        record = JobRecord(
            id=self.job_id,
            created_at=int(self._now),
            request=request,
            spec=self.spec,
            rollout_workers=2,
            reward_workers=1,
        )
        jobs = Jobs(self.client)
        jobs.create(record)
        way = WAYS.get(status, [Status.QUEUED, Status.RUNNING])
        for to in [*way, status]:
            jobs.transition(self.job_id, to, by="test")
        if status is Status.RUNNING:
            jobs.update(self.job_id, stage="training", waiting_for={"what": "a batch", "since": time.time() - 3})
        write_gate_curve(self.spec, self._folder().gate)

    def _folder(self) -> Any:
        folder = self.layout.job(self.job_id)
        folder.root.mkdir(parents=True, exist_ok=True)
        return folder

    def train(self, first: int, last: int) -> None:
        """Records of the steps from `first` to before `last`, with their evaluations and checkpoints."""
        store = Steps(self.client, self.layout)
        for step in range(first, last):
            store.put(self.job_id, step, self.record(step))
            done = step + 1
            if done % 20 == 0:
                self._evaluate(done)
            if done % 50 == 0:
                Checkpoints(self.client).put(
                    self.job_id,
                    done,
                    {"path": "", "created_at": int(self._now), "train_mean_reward": self._reward(step)},
                )
        fields = {
            "next_step": last,
            "policy_version": last + 1,
            "phase": "waiting_for_batch",
            "trained_tokens": 480 * last,
        }
        Progress(self.client).set(self.job_id, **fields)

    def record(self, step: int) -> dict[str, Any]:
        """What a learner says of a step."""
        chance = self._uniform
        done = step / self.steps
        ages = [min(self.max_staleness, int(-1.1 * math.log(1 - 0.999 * chance()))) for _ in range(SEQUENCES)]
        table, tokens = DriftTable(), 0
        inputs = self._ratios(done, ages)
        outputs = policy_loss(inputs, self._config)
        table.add(outputs, update=0)
        tokens = SEQUENCES * TOKENS
        reward = self._reward(step)
        batch_wait = max(0.05, 0.6 + 0.5 * self._normal())
        seconds = 5.0 + 0.5 * abs(self._normal())
        self._now += seconds + batch_wait
        record = {
            "time": self._now,
            "replayed": False,
            "groups": 16,
            "reward_mean": reward,
            "reward_std": math.sqrt(max(0.0, reward * (1 - reward))) * 0.6,
            "reward_zero_variance_groups_ratio": 0.2 + 0.4 * done,
            "loss": 0.02 * self._normal(),
            "grad_norm": 0.4 + 0.1 * abs(self._normal()),
            "learning_rate": self.spec.learner.learning_rate,
            "updates": 1,
            "skipped_updates_total": 0,
            "tokens": tokens * 16,
            "completion_tokens_mean": 20.0 + 3 * done,
            "staleness_mean": sum(ages) / len(ages),
            "staleness_max": max(ages),
            "drift": table.figures(),
            "wait_seconds": batch_wait,
            "seconds": seconds,
            "waits": {
                "batch": batch_wait,
                "staleness": 0.2 if chance() < 0.1 else 0.0,
                "publish": 0.3 + 0.05 * chance(),
                "checkpoint": 0.4 if step % 50 == 49 else 0.0,
            },
            "epoch": 1,
            "policy_version": step + 2,
        }
        self._window = [*self._window, Figures.of(step, record)][-self.spec.guard.window_steps :]
        decision = decide(self._window, self._guarding, self.spec.guard)
        self._guarding = decision.state
        return {**record, "guard": decision.view()}

    def _ratios(self, done: float, ages: list[int]) -> LossInputs:
        shape = (SEQUENCES, TOKENS)
        width = self.drift * (1 + self.growth * done) * torch.tensor(ages, dtype=torch.float64)[:, None] + 0.0008
        tails = torch.randn(shape, generator=self._random, dtype=torch.float64)
        heavy = torch.rand(shape, generator=self._random, dtype=torch.float64)
        z = width * (tails * (1 + 3 * (heavy > 0.95)) - 0.15)
        behaviour = -0.1 - torch.rand(shape, generator=self._random, dtype=torch.float64)
        advantages = torch.where(torch.arange(SEQUENCES) % 2 == 0, 0.9, -0.9).double()
        return LossInputs(
            policy_logprobs=behaviour + z,
            behaviour_logprobs=behaviour,
            advantages=advantages,
            mask=torch.ones(shape),
            buckets=ages,
        )

    def sample(self, step: int) -> None:
        """A group that was kept to be looked at."""
        trajectories = []
        newest = step + 1
        for place, (reward, text) in enumerate(ANSWERS):
            tokens = [part if number == 0 else f" {part}" for number, part in enumerate(text.split(" "))]
            age = place % (self.max_staleness + 1)
            wide = self.drift * 6 * age + 0.001
            z = [round(wide * self._normal() * (2.5 if self._uniform() > 0.9 else 0.6), 5) for _ in tokens]
            sign = 1.0 if reward > 0.5 else -1.0
            inputs = LossInputs(
                policy_logprobs=torch.tensor([z]).double(),
                behaviour_logprobs=torch.zeros(1, len(z)).double(),
                advantages=torch.tensor([sign]).double(),
                mask=torch.ones(1, len(z)),
            )
            weights = policy_loss(inputs, self._config).tokens
            half = len(tokens) // 2
            older, newer = max(1, newest - age), max(1, newest - max(0, age - 1))
            trajectories.append(
                {
                    "reward": reward,
                    "advantage": round(sign * (0.6 + 0.5 * self._uniform()), 5),
                    "tokens": tokens,
                    "log_ratios": z,
                    "weights": [round(float(w), 5) for w in weights.weight[0]] if weights is not None else [],
                    "versions": [older] * half + [newer] * (len(tokens) - half),
                }
            )
        line = {"step": step, "group_number": step * 16, "prompt": PROMPT, "trajectories": trajectories}
        append_line(self._folder().samples, json.dumps(line))

    def staff(self, workers: list[tuple[str, WorkerKind, WorkerState, float]], version: int) -> None:
        """Worker records: id, kind, state, age of the heartbeat in seconds."""
        for name, kind, state, age in workers:
            proven = version if kind == "rollout" and state == "ready" else 0
            worker = WorkerRecord(
                id=name,
                kind=kind,
                state=state,
                policy_version=proven,
                node="node-a",
                pid=1,
                heartbeat=time.time() - age,
            )
            Registry(self.client).put(self.job_id, worker)

    def issue(self, trained: int, dropped: int, waiting: int) -> None:
        """A ledger with so many groups, and as many as `waiting` in the stream of prompts."""
        streams.prepare(self.client, self.job_id)
        for number in range(trained + dropped + waiting):
            streams.dispatch(self.client, self.job_id, number, b"\0" * 900, self.steps)
            if number < trained + dropped:
                self.client.delete(*streams_of(self.job_id))
        numbers = {"trained": list(range(trained)), "stale": list(range(trained, trained + dropped))}
        Progress(self.client).finish(self.job_id, epoch=0, next_step=0, numbers=numbers, entry_ids=[])

    def tell(self, *lines: tuple[str, str]) -> None:
        """Events: level and message."""
        for level, message in lines:
            Events(self.client).add(self.job_id, message, level=level)  # type: ignore[arg-type]

    def _evaluate(self, done: int) -> None:
        reward = min(1.0, self._reward(done) + 0.02)
        record = {
            "reward_mean": reward,
            "graded": 64,
            "failed": 0,
            "missing": 0,
            "policy_versions": [done + 1],
            "seconds": 9.0,
        }
        Evaluations(self.client).put(self.job_id, done, record)

    def _reward(self, step: int) -> float:
        rise = 1 - math.exp(-3.2 * step / self.steps)
        return min(1.0, max(0.0, 0.08 + (self.ceiling - 0.08) * rise + 0.025 * self._normal()))

    def _normal(self) -> float:
        return float(torch.randn(1, generator=self._random))

    def _uniform(self) -> float:
        return float(torch.rand(1, generator=self._random))


def streams_of(job_id: str) -> list[str]:
    """Keys of the stream of prompts and its index."""
    from services.store import keys

    return [keys.stream(job_id, streams.PROMPTS), keys.stream_index(job_id, streams.PROMPTS)]
