"""A learner without torch: its model is one number, its groups are scored already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.learner.backend import Difference, TokenWeights, TrainingState
from services.learner.loop import Learner
from services.learner.pulse import Pulse
from services.learner.recovery import checkpoint
from services.records.drift import DriftFigures
from services.records.ratios import RatioFigures
from services.records.samples import GateCurve
from services.records.step import StepFigures
from services.store.client import Client
from services.store.job.jobs import Jobs
from services.store.job.steps import Steps
from services.store.job.transitions import Status
from services.trajectories.codec import encode, floats, ints, mask
from sspo_proto.trajectory_pb2 import Group, PromptTask, Reward, Sampling, Trajectory, VersionSpan
from tests.support.learning import fill
from tests.support.tiny import job_spec

JOB = "ftjob-1"


class Number:
    """A model of one number: a step hashes into it what it was trained with. Notes what is asked of it, in order."""

    vocab_size = 32

    def __init__(self) -> None:
        self.state = TrainingState()
        self.weight = "base"
        self.asked: list[str] = []
        self.at_a_step: Callable[[int], None] = lambda step: None
        self.kl: Mapping[int, float] = {}

    def train(self, groups: Sequence[Group], step: int, spec: JobSpec) -> StepFigures:
        self.at_a_step(step)
        self.asked.append(f"train {step}")
        what = (self.weight, [group.task.group_number for group in groups], spec.learner.learning_rate)
        self.weight = hashlib.sha256(repr(what).encode()).hexdigest()
        self.state = TrainingState(step + 1, step + 1, 0, self.state.trained_tokens + len(groups))
        drift = DriftFigures(kl_k3=self.kl.get(step, 0.0))
        return StepFigures(reward_mean=1.0, loss=0.5, staleness_max=0, tokens=len(groups), drift=drift)

    def capture(self) -> Any:
        text = self.weight.encode()

        class Captured:
            bytes = len(text)

            @staticmethod
            def write(folder: Path) -> dict[str, str]:
                (folder / "weight").write_bytes(text)
                return {"weight": hashlib.sha256(text).hexdigest()}

        return Captured()

    def load(self, folder: Path, hashes: Mapping[str, str], state: TrainingState) -> None:
        self.asked.append(f"load {state.next_step}")
        self.weight, self.state = (folder / "weight").read_text(), state

    def publish(self, root: Path, *, version: int, step: int) -> Path:
        self.asked.append(f"publish v{version} of {step}")
        return root / str(version)

    def export(self, folder: Path) -> None:
        self.asked.append("export")
        folder.mkdir(parents=True)
        (folder / "weight").write_text(self.weight)

    def token_weights(self) -> Mapping[int, TokenWeights]:
        return {}

    def keep(self) -> None:
        pass

    def forget(self) -> None:
        pass

    def recompute(self, group: Group) -> RatioFigures:
        return RatioFigures()

    def compare(self, folder: Path, hashes: Mapping[str, str]) -> list[Difference]:
        return []

    def weights_sha256(self, *, most_bytes: int | None = None) -> str | None:
        return self.weight

    def environment(self) -> dict[str, str | int]:
        return {}

    def gate_curve(self, spec: JobSpec) -> GateCurve:
        return GateCurve(objective="sspo", log_ratio=())


def group(number: int) -> bytes:
    """A scored group, as old as the base model."""
    task = PromptTask(
        schema_version=1, job_id=JOB, group_number=number, prompt_token_ids=ints([1]), sampling=Sampling(group_size=1)
    )
    one = Trajectory(
        completion_token_ids=ints([5]),
        behaviour_logprobs=floats([-0.1]),
        loss_mask=mask([1]),
        version_spans=[VersionSpan(version=1, step=0, start=0, end=1)],
        reward=Reward(value=1.0),
    )
    return encode(Group(schema_version=1, task=task, trajectories=[one]))


class Job:
    """One job whose groups are scored already; `learner` is one more learner of it."""

    def __init__(self, client: Client, root: Path, groups: int = 12, **changes: Any) -> None:
        self.client = client
        self.layout = Layout(root)
        model = self.layout.models / "tiny"
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
        learner = {"steps": 4, "batch_size": 2, "max_staleness": 9, "checkpoint_every": 2, "wait_seconds": 30.0}
        self.spec = job_spec(JOB, **learner | changes.pop("learner", {})).model_copy(update=changes)
        fill(client, self.spec, [group(number) for number in range(groups)])
        for status in (Status.QUEUED, Status.RUNNING):
            Jobs(client).transition(JOB, status, by="test")
        self.model = Number()
        self.pulse = Pulse()

    @property
    def folder(self) -> Any:
        return self.layout.job(JOB)

    def learner(self) -> Learner:
        self.model, self.pulse = Number(), Pulse()
        return Learner(self.spec, self.client, self.layout, self.model, self.pulse)

    def steps(self) -> list[int]:
        return [record.step for record in Steps(self.client, self.layout).since(JOB)]

    def checkpoints(self) -> list[int]:
        return [checkpoint.step_of(path) for path in checkpoint.stored(self.folder.checkpoints)]
