"""One job of the study: the product's learner on sums, fed by an engine that may have a fault; what came of it."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gate_study.starter import questions
from services.cli.demo.starter import accuracy, encode
from services.disk.layout import Layout
from services.drift.explain import explain
from services.drift.findings import Surroundings
from services.job.spec import ExtensionSpec, JobSpec
from services.journal.journal import Journal
from services.learner.opening import open_learner
from services.records.step import StepRecord
from services.store.client import Client, connect
from services.store.job.events import Events
from services.store.job.jobs import Jobs
from services.store.job.record import JobRecord
from services.store.job.steps import Steps
from services.store.job.transitions import Status
from services.trajectories import streams
from services.trajectories.codec import decode_group
from services.trajectories.tallies import Tallies
from sspo_proto.trajectory_pb2 import Group
from testbed.alarms import Scrapes, firing
from testbed.engines import NO_FAULT, Fault, StudyEngine
from testbed.feed import Feed
from testbed.redis_server import RedisServer
from testbed.stale import WORKER, StaleWorker

MODEL = "starter"
GROUPS, GROUP_SIZE, UPDATES, MAX_TOKENS = 32, 8, 2, 4
LEARNING_RATE = 3e-4
WARMUP_UPDATES = 5
HELD_OUT = 256


@dataclass(frozen=True)
class Run:
    """What decides a run."""

    name: str
    seed: int = 1
    steps: int = 60
    learning_rate: float = LEARNING_RATE
    updates_per_step: int = UPDATES
    max_staleness: int = 0
    fault: Fault = NO_FAULT
    guard: Mapping[str, Any] = field(default_factory=dict)
    stale_worker: bool = False
    """A second engine, in a rollout worker of the product, never loads what it is given."""
    checkpoint_every: int = 5
    evaluate_every: int = 2


def spec_of(run: Run) -> JobSpec:
    """The job that the learner is given."""
    body = ExtensionSpec.model_validate(
        {
            "rollout": {"group_size": GROUP_SIZE, "max_tokens": MAX_TOKENS, "temperature": 1.0},
            "learner": {
                "steps": run.steps,
                "batch_size": GROUPS,
                "updates_per_step": run.updates_per_step,
                "learning_rate": run.learning_rate,
                "warmup_steps": WARMUP_UPDATES,
                "max_staleness": run.max_staleness,
                "synchronous": run.max_staleness == 0,
                "checkpoint_every": run.checkpoint_every,
            },
            "guard": run.guard,
        }
    )
    job_id = f"ftjob-{run.name}-{run.seed}"
    return JobSpec.assemble(body, job_id=job_id, model=MODEL, training_file="sums", seed=run.seed, grader={})


@dataclass
class Outcome:
    """What came of a run: plain data."""

    run: str
    seed: int
    ended: str
    """"finished", "drained", or the error that ended it."""
    curve: list[tuple[int, float]]
    """(step, held-out reward) in the order in which it was measured."""
    records: list[StepRecord]
    events: list[str]
    """Warnings and errors."""
    trained_of_stale: int
    """Groups that were trained, of those that the stale worker sampled under weights it did not have."""
    findings: dict[str, int]
    """Finding → first step at which it was said."""
    alerts: list[str]
    """Findings for which the alert fired."""
    seconds: float

    @property
    def best(self) -> float:
        return max((value for _, value in self.curve), default=0.0)

    @property
    def last(self) -> float:
        return self.curve[-1][1] if self.curve else 0.0

    @property
    def collapsed(self) -> bool:
        """Below half of its best at the end."""
        return self.last < 0.5 * self.best


def play(run: Run, client: Client, layout: Layout) -> Outcome:
    """Train the job to its end on this thread. The model lies in `layout` under `MODEL`."""
    spec, began = spec_of(run), time.monotonic()
    Jobs(client).create(
        JobRecord(
            id=spec.job_id,
            status=Status.RUNNING,
            created_at=int(time.time()),
            request={"model": MODEL},
            spec=spec,
            rollout_workers=1,
            reward_workers=1,
        )
    )
    streams.prepare(client, spec.job_id)
    model, rows, held_out, start = materials(layout.model(MODEL))
    curve: list[tuple[int, float]] = []
    judge = copy.deepcopy(model)

    scrapes = Scrapes(spec.job_id, client, layout)

    def measure(step: int, tensors: dict[str, Tensor]) -> None:
        judge.load_state_dict(tensors)
        curve.append((step, accuracy(judge, held_out, start).sampled))

    def seen(step: int, tensors: dict[str, Tensor]) -> None:
        scrapes.take()
        if step % run.evaluate_every == 0:
            measure(step, tensors)

    engine = StudyEngine(model, GROUP_SIZE, MAX_TOKENS, run.fault)
    learner = open_learner(spec, client, layout)
    stale = StaleWorker(spec, client, copy.deepcopy(model)) if run.stale_worker else None
    with scrapes, Feed(spec, client, engine, rows, start, seen, neighbour=lambda: stale is not None and stale.alive):
        if stale is not None:
            stale.start()
        ended = learner.run()
        if stale is not None:
            stale.stop()
    if ended == "finished":
        engine.load(max((layout.job(spec.job_id).weights).glob("v*")))
        measure(engine.newest.step - engine.newest.step % run.evaluate_every, engine.newest.tensors)
    records = Steps(client, layout).since(spec.job_id)
    events = [event.message for event in Events(client).list(spec.job_id, limit=1000)[0] if event.level != "info"]
    found = named(spec, records, Tallies(client).read(spec.job_id).canary_failures)
    return Outcome(
        run=run.name,
        seed=run.seed,
        ended=ended,
        curve=curve,
        records=records,
        events=events[::-1],
        trained_of_stale=_trained_of_stale(layout, spec),
        findings=found,
        alerts=firing(scrapes.pages),
        seconds=time.monotonic() - began,
    )


def _trained_of_stale(layout: Layout, spec: JobSpec) -> int:
    """By the journal: its groups name worker and version; the worker's first version was loaded as it should."""
    journal = Journal(layout.job(spec.job_id).journal)
    found = 0
    for header in list(journal.headers()):
        if header.kind == "step" and not journal.is_pruned(header.sequence):
            groups = [decode_group(payload) for payload in journal.read(header.sequence).payloads]
            found += sum(group.rollout_worker == WORKER and newest_version(group) > 1 for group in groups)
    return found


def newest_version(group: Group) -> int:
    """Of all its tokens."""
    return max(span.version for trajectory in group.trajectories for span in trajectory.version_spans)


def named(spec: JobSpec, records: list[StepRecord], canary_failures: int = 0) -> dict[str, int]:
    """Every finding that an explanation would have shown in the course of the job, with its first step."""
    found: dict[str, int] = {}
    for end in range(1, len(records) + 1):
        around = Surroundings(canary_failures=canary_failures if end == len(records) else 0)
        for finding in explain(spec, records[:end], around):
            found.setdefault(finding.name, records[end - 1].step)
    return found


def materials(folder: Path) -> tuple[Any, Tensor, Tensor, int]:
    """The model, token ids to train on and held out, and where answers begin."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer, data = AutoTokenizer.from_pretrained(folder), questions()
    train, start = encode(tokenizer, data.train)
    spread = [data.validation[index * len(data.validation) // HELD_OUT] for index in range(HELD_OUT)]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, train, encode(tokenizer, spread)[0], start


@contextmanager
def workplace(model: Path) -> Iterator[tuple[Client, Layout]]:
    """A Redis and a data folder with the model, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="drift-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            layout = Layout(Path(folder) / "data")
            layout.models.mkdir(parents=True)
            (layout.models / MODEL).symlink_to(model.resolve())
            client = connect(server.url)
            yield client, layout
            client.close()
        finally:
            server.kill()
