"""Jobs as a learner, a controller and workers would leave them in Redis and on disk, without running any."""

from __future__ import annotations

import time
from collections.abc import Sequence

from services.disk.layout import JobFolder, Layout
from services.job.guard import GuardAction, GuardSpec
from services.job.objective import DEFAULT_GATE, objective_config
from services.job.spec import (
    EvaluationSpec,
    JobSpec,
    LearnerSpec,
    RewardSpec,
    RolloutSpec,
)
from services.learner.model.gate_curve import gate_curve
from services.records.outcomes import CheckpointRecord, EvaluationRecord
from services.records.worker import WorkerKind, WorkerRecord, WorkerState
from services.store import keys
from services.store.client import Client
from services.store.job.events import Events, Level
from services.store.job.jobs import Jobs
from services.store.job.record import JobRecord
from services.store.job.registry import Registry
from services.store.job.samples import SampleFile, write_gate
from services.store.job.steps import Checkpoints, Evaluations, Steps
from services.store.job.transitions import Status
from services.trajectories import streams
from services.trajectories.entries import PROMPTS
from services.trajectories.progress import Progress
from tests.browser.records import Course, Records

GRADER = {
    "type": "string_check",
    "name": "exact",
    "operation": "eq",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
}
WAYS = {Status.QUEUED: [], Status.PAUSED: [Status.QUEUED, Status.RUNNING, Status.PAUSING]}
"""How a job comes to a state, where it isn't through queued and running."""
Crew = Sequence[tuple[str, WorkerKind, WorkerState, float]]
"""Workers: id, kind, state, age of the heartbeat in seconds."""


class Scene:
    """One job, and what it takes to let it go on."""

    def __init__(
        self,
        client: Client,
        layout: Layout,
        job_id: str,
        *,
        steps: int = 400,
        course: Course | None = None,
        guard: tuple[GuardAction, ...] = ("warn",),
        suffix: str = "",
        seed: int = 0,
    ) -> None:
        self.client, self.job_id = client, job_id
        self._layout, self._suffix = layout, suffix
        self._course = course or Course()
        objective = {"name": "sspo", **vars(objective_config({"name": "sspo", **DEFAULT_GATE}))}
        self.spec = JobSpec(
            job_id=job_id,
            model="sspo-demo",
            training_file="file-train",
            validation_file="file-valid",
            seed=seed,
            grader=GRADER,
            objective=objective,
            rollout=RolloutSpec(workers=2, group_size=8, max_tokens=64),
            learner=LearnerSpec(steps=steps, batch_size=16, max_staleness=3),
            reward=RewardSpec(),
            evaluation=EvaluationSpec(every=20),
            guard=GuardSpec(actions=guard),
        )

    def create(self, status: Status = Status.RUNNING, *, age_seconds: float = 4000.0) -> None:
        """The job's record, in a state, made so long ago; and its gate's curve."""
        created = time.time() - age_seconds
        self._records = Records(self.spec, self._course, created)
        request = {"method": {"type": "reinforcement", "reinforcement": {"grader": GRADER}}, "suffix": self._suffix}
        wanted = {"rollout_workers": 2, "reward_workers": 1}
        jobs = Jobs(self.client)
        jobs.create(JobRecord(id=self.job_id, created_at=int(created), request=request, spec=self.spec, **wanted))
        for to in [*WAYS.get(status, [Status.QUEUED, Status.RUNNING]), status]:
            jobs.transition(self.job_id, to, by="test")
        if status is Status.RUNNING:
            jobs.update(self.job_id, stage="training", waiting_for={"what": "a batch", "since": time.time() - 3})
        self._folder().root.mkdir(parents=True, exist_ok=True)
        write_gate(self._folder(), gate_curve(self.spec))

    def _folder(self) -> JobFolder:
        return self._layout.job(self.job_id)

    def train(self, first: int, last: int) -> None:
        """Records of the steps from `first` to before `last`, with their evaluations and checkpoints."""
        store = Steps(self.client, self._layout)
        for step in range(first, last):
            store.put(self.job_id, self._records.step(step))
            done, now = step + 1, int(self._records.now)
            if done % 20 == 0:
                reward = min(1.0, self._records.reward(done) + 0.02)
                found = EvaluationRecord(step=done, reward_mean=reward, graded=64, seconds=9.0)
                Evaluations(self.client).put(self.job_id, found)
            if done % 50 == 0:
                reward = self._records.reward(step)
                kept = CheckpointRecord(step=done, path="", created_at=now, train_mean_reward=reward)
                Checkpoints(self.client).put(self.job_id, kept)
        fields = {"next_step": last, "policy_version": last + 1, "trained_tokens": 7680 * last}
        Progress(self.client).set(self.job_id, phase="waiting_for_batch", **fields)

    def sample(self, step: int) -> None:
        """A group that was kept to be looked at."""
        SampleFile(self._folder().samples).add(self._records.sample(step))

    def staff(self, crew: Crew, version: int) -> None:
        """Workers, those that are ready with the weights `version`."""
        for name, kind, state, age in crew:
            proven = version if kind == "rollout" and state == "ready" else 0
            said = {"id": name, "kind": kind, "state": state, "policy_version": proven, "node": "node-a", "pid": 1}
            Registry(self.client).put(
                self.job_id, WorkerRecord.model_validate({**said, "heartbeat": time.time() - age})
            )

    def issue(self, trained: int, dropped: int, waiting: int) -> None:
        """A ledger with so many groups, and as many as `waiting` in the stream of prompts."""
        streams.prepare(self.client, self.job_id)
        prompts = (keys.stream(self.job_id, PROMPTS), keys.stream_index(self.job_id, PROMPTS))
        for number in range(trained + dropped + waiting):
            streams.dispatch(self.client, self.job_id, number, b"\0" * 900, self.spec.learner.steps)
            if number < trained + dropped:
                self.client.delete(*prompts)
        numbers = {"trained": list(range(trained)), "stale": list(range(trained, trained + dropped))}
        Progress(self.client).finish(self.job_id, epoch=0, next_step=0, numbers=numbers, entry_ids=[])

    def tell(self, *lines: tuple[Level, str]) -> None:
        """Events."""
        for level, message in lines:
            Events(self.client).add(self.job_id, message, level=level)
