"""Engines that do something wrong, before a real learner: each job is named for what is wrong with it.

The long form of this, on a task that is learnt, is `benchmarks/drift_study`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from services.disk.layout import Layout
from services.drift.explain import explain
from services.drift.findings import Surroundings
from services.job.spec import JobSpec, RolloutSpec
from services.journal.journal import Journal
from services.learner.opening import open_learner
from services.store.client import Client
from services.store.job.steps import Steps
from services.trajectories import streams
from services.trajectories.codec import decode_group
from services.trajectories.tallies import Tallies
from testbed.alarms import Scrapes, firing
from testbed.engines import NO_FAULT, Fault, StudyEngine
from testbed.feed import Feed
from testbed.sampler import Question
from testbed.stale import WORKER, StaleWorker
from tests.support.prometheus.server import program
from tests.support.tiny import create_job, job_spec

pytestmark = pytest.mark.timeout(120)
CAUSES = {
    "learning_rate_too_high",
    "weights_late",
    "samples_wait",
    "stale_engine",
    "sampling_temperature",
    "truncated_sampling",
    "hidden_sampling",
}


def low_ids(question: Question, tokens: Sequence[int]) -> float:
    """A task that a model without any training can begin to learn."""
    return sum(token < 16 for token in tokens) / 6


def spec_of(job_id: str, **learner: Any) -> JobSpec:
    settings: dict[str, Any] = {
        "steps": 6,
        "batch_size": 8,
        "updates_per_step": 2,
        "learning_rate": 3e-4,
        "wait_seconds": 15.0,
    }
    settings |= {"synchronous": True, "max_staleness": 0, "checkpoint_every": 100}
    spec = job_spec(job_id, **{**settings, **learner})
    return spec.model_copy(update={"rollout": RolloutSpec(group_size=8, max_tokens=6)})


def train(
    client: Client, layout: Layout, spec: JobSpec, fault: Fault = NO_FAULT, *, stale: bool = False
) -> tuple[Any, list[str]]:
    """Train the job with an engine of this fault, and beside it, if asked, one that never loads new weights: that one,
    and the findings for which the shipped alert fires if the job stays as it is in the end."""
    program("promtool")
    from transformers import AutoModelForCausalLM

    create_job(client, spec)
    streams.prepare(client, spec.job_id)
    model = AutoModelForCausalLM.from_pretrained(layout.model(spec.model), dtype=torch.float32).eval()
    rows = torch.randint(3, 32, (64, 8), generator=torch.Generator().manual_seed(5))
    engine = StudyEngine(model, spec.rollout.group_size, spec.rollout.max_tokens, fault, low_ids)
    neighbour = StaleWorker(spec, client, model) if stale else None
    learner = open_learner(spec, client, layout)
    scrapes = Scrapes(spec.job_id, client, layout)

    def seen(*about: Any) -> None:
        scrapes.take()

    with scrapes, Feed(spec, client, engine, rows, 2, seen, lambda: neighbour is not None and neighbour.alive):
        if neighbour is not None:
            neighbour.start()
        assert learner.run() == "finished"
        if neighbour is not None:
            neighbour.stop()
    assert len(scrapes.pages) == spec.learner.steps + 1, "before each step, and at the end"
    return neighbour, firing(scrapes.pages)


def said(client: Client, layout: Layout, spec: JobSpec) -> set[str]:
    failures = Tallies(client).read(spec.job_id).canary_failures
    records = Steps(client, layout).since(spec.job_id)
    return {finding.name for finding in explain(spec, records, Surroundings(canary_failures=failures))}


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (NO_FAULT, set()),
        (Fault(temperature=0.85), {"sampling_temperature"}),
        (Fault(temperature=1.15), {"sampling_temperature"}),
        (Fault(top_p=0.9), {"truncated_sampling"}),
        (Fault(top_p=0.9, raw_logprobs=True), {"hidden_sampling"}),
        (Fault(bfloat16=True), set()),
    ],
    ids=["nothing", "colder", "hotter", "truncated", "hidden", "bfloat16"],
)
def test_an_engine_is_named_for_what_it_does(client: Client, layout: Layout, fault: Fault, cause: set[str]) -> None:
    spec = spec_of("ftjob-engine")
    _, alerts = train(client, layout, spec, fault)
    assert CAUSES & said(client, layout, spec) == CAUSES & set(alerts) == cause


def test_weights_that_come_late_are_named(client: Client, layout: Layout) -> None:
    spec = spec_of("ftjob-late", steps=10, max_staleness=4, synchronous=False)
    _, alerts = train(client, layout, spec, Fault(late_steps=4))
    records = Steps(client, layout).since(spec.job_id)
    assert [record.weights_lag_mean for record in records] == [float(min(step, 4)) for step in range(10)]
    assert CAUSES & said(client, layout, spec) == CAUSES & set(alerts) == {"weights_late"}


def test_a_learning_rate_that_is_too_high_is_named(client: Client, layout: Layout) -> None:
    spec = spec_of("ftjob-hot", learning_rate=1e-2)
    _, alerts = train(client, layout, spec)
    assert CAUSES & said(client, layout, spec) == CAUSES & set(alerts) == {"learning_rate_too_high"}


def test_an_engine_with_stale_weights_is_caught_and_none_of_its_groups_is_trained(
    client: Client, layout: Layout
) -> None:
    spec = spec_of("ftjob-stale", steps=4)
    neighbour, alerts = train(client, layout, spec, stale=True)
    assert "version 2: log-probs differ" in neighbour.failure
    assert neighbour.engine.sampled, "it did sample, while it had the weights that it said"
    journal = Journal(layout.job(spec.job_id).journal)
    sequences = [header.sequence for header in journal.headers() if header.kind == "step"]
    groups = [decode_group(payload) for sequence in sequences for payload in journal.read(sequence).payloads]
    versions = {
        span.version
        for group in groups
        if group.rollout_worker == WORKER
        for trajectory in group.trajectories
        for span in trajectory.version_spans
    }
    assert versions <= {1}, "none that it labelled with weights it did not have"
    assert CAUSES & said(client, layout, spec) == CAUSES & set(alerts) == {"stale_engine"}
