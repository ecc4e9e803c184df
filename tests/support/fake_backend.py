"""A learner's model that is one number: the order of things without any arithmetic, in milliseconds, without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from services.disk.files import sha256, write_durable
from services.job.spec import JobSpec
from services.learner.backend import Comparison, TokenWeights, TrainingState
from services.learner.errors import CheckpointDamaged
from services.records.drift import DriftFigures
from services.records.ratios import RatioFigures
from services.records.samples import GateCurve
from services.records.step import StepFigures
from sspo_proto.trajectory_pb2 import Group

WEIGHTS = "weights.json"


@dataclass(frozen=True)
class FakeCapture:
    """The number at one moment."""

    weights: float
    bytes: int = 8

    def write(self, folder: Path) -> dict[str, str]:
        write_durable(folder / WEIGHTS, json.dumps(self.weights).encode())
        return {WEIGHTS: sha256(folder / WEIGHTS)}


class FakeBackend:
    """Implements `services.learner.backend.Backend`. Training adds the learning rate times the rewards, in an order
    that matters; `calls` says what was asked for, `before_train` may look or raise."""

    vocab_size = 100

    def __init__(self, before_train: Callable[[int, Sequence[int]], None] = lambda step, numbers: None) -> None:
        self.weights = 0.0
        self.state = TrainingState()
        self.kl_k3: dict[int, float] = {}
        """Step → what it says of its drift the first time; 0 where nothing is set."""
        self.calls: list[str] = []
        self._before_train = before_train
        self._kept: float | None = None

    def train(self, groups: Sequence[Group], step: int, spec: JobSpec) -> StepFigures:
        numbers = [group.task.group_number for group in groups]
        self.calls.append(f"train step {step}: {numbers}")
        self._before_train(step, numbers)
        rewards = [trajectory.reward.value for group in groups for trajectory in group.trajectories]
        self.weights = 0.9 * self.weights + spec.learner.learning_rate * sum(rewards)
        self.state = replace(self.state, next_step=step + 1, trained_tokens=self.state.trained_tokens + len(rewards))
        drift = DriftFigures(kl_k3=self.kl_k3.pop(step, 0.0))
        reward = sum(rewards) / len(rewards)
        return StepFigures(reward_mean=reward, loss=-self.weights, tokens=len(rewards), drift=drift)

    def token_weights(self) -> Mapping[int, TokenWeights]:
        return {}

    def keep(self) -> None:
        self._kept = self.weights

    def forget(self) -> None:
        self._kept = None

    def recompute(self, group: Group) -> RatioFigures:
        assert self._kept is not None
        self.calls.append(f"recompute {group.task.group_number}")
        return RatioFigures(tokens=1.0, kl_k3=0.25)

    def capture(self) -> FakeCapture:
        self.calls.append(f"capture step {self.state.next_step}")
        return FakeCapture(self.weights)

    def load(self, folder: Path, hashes: Mapping[str, str], state: TrainingState) -> None:
        if sha256(folder / WEIGHTS) != hashes[WEIGHTS]:
            raise CheckpointDamaged(f"{folder.name}: {WEIGHTS} fails its hash")
        self.calls.append(f"load step {state.next_step}")
        self.weights, self.state = json.loads((folder / WEIGHTS).read_text()), state

    def compare(self, folder: Path, hashes: Mapping[str, str]) -> list[Comparison]:
        stored = json.loads((folder / WEIGHTS).read_text())
        return [Comparison("weights", str(stored), str(self.weights))]

    def weights_sha256(self, *, most_bytes: int | None = None) -> str | None:
        return hashlib.sha256(repr(self.weights).encode()).hexdigest()

    def environment(self) -> dict[str, str | int]:
        return {"backend": "fake"}

    def publish(self, root: Path, *, version: int, step: int) -> Path:
        self.calls.append(f"publish version {version} of step {step}")
        folder = root / f"v{version:08d}"
        folder.mkdir(parents=True)
        return folder

    def export(self, folder: Path) -> None:
        self.calls.append("export")
        folder.mkdir(exist_ok=True)

    def gate_curve(self, spec: JobSpec) -> GateCurve:
        return GateCurve(objective=spec.objective["name"], log_ratio=(0.0,))
