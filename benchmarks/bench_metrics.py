"""What the service's looking at itself costs a learner: metrics on against off, step by step in turns.

    python -m benchmarks.bench_metrics [--steps N]

"On" is what a job does: entropy, the diagnostics of every token by bucket, the step record on disk and in Redis, the
worker's own meters, sampled trajectories, and a scrape of the worker's page every tenth step. "Off" is the same step
with all of that taken out from here; the product has no such switch. CPU seconds of this process, one thread, the same
batch every time. Then 64 exporters in one process are scraped one after the other.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from services.disk.layout import Layout
from services.job.spec import ExtensionSpec, JobSpec, LearnerSpec, RolloutSpec
from services.learner.model.policy import Policy
from services.learner.model.trainer import Trainer
from services.learner.reports.reporting import Reporter
from services.learner.reports.samples import Samples
from services.observability import exporter
from services.observability.meters import BULK, Meters
from services.observability.metrics import METRICS
from services.records.drift import DriftFigures
from services.records.step import StepRecord, StepWaits
from services.store.client import connect
from services.store.job.jobs import Jobs
from services.store.job.record import JobRecord
from services.trajectories.codec import floats, ints, mask
from sspo_core import losses
from sspo_proto.trajectory_pb2 import Group, PromptTask, Reward, Trajectory, VersionSpan
from testbed.redis_server import RedisServer

VOCABULARY, HIDDEN, LAYERS = 4096, 192, 4
GROUPS, MEMBERS, PROMPT, COMPLETION = 4, 4, 16, 112
SCRAPE_EVERY = 10
EXPORTERS = 64


def write_model(folder: Path) -> None:
    """A random Llama of a few million parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=3 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=PROMPT + COMPLETION,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def groups() -> list[Group]:
    """Groups with log-probs near those of a random policy, half of them a step old."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for number in range(GROUPS):
        task = PromptTask(
            schema_version=1,
            job_id="ftjob-1",
            group_number=number,
            prompt_token_ids=ints(torch.randint(VOCABULARY, (PROMPT,), generator=generator).numpy()),
        )
        trajectories = [
            Trajectory(
                completion_token_ids=ints(torch.randint(VOCABULARY, (COMPLETION,), generator=generator).numpy()),
                loss_mask=mask([1] * COMPLETION),
                behaviour_logprobs=floats((-8.3 + 0.1 * torch.randn(COMPLETION, generator=generator)).numpy()),
                version_spans=[VersionSpan(version=1, step=number % 2, start=0, end=COMPLETION)],
                reward=Reward(value=float(member % 2)),
            )
            for member in range(MEMBERS)
        ]
        made.append(Group(schema_version=1, task=task, trajectories=trajectories))
    return made


def job() -> JobSpec:
    """A job on that model."""
    extension = ExtensionSpec(
        rollout=RolloutSpec(group_size=MEMBERS, max_tokens=COMPLETION),
        learner=LearnerSpec(steps=3, batch_size=2, learning_rate=1e-2),
    )
    return JobSpec.assemble(extension, job_id="ftjob-1", model="tiny", training_file="file-1", seed=7, grader={})


class Nothing:
    """In the place of a step's drift table."""

    def add(self, *_: Any, **__: Any) -> None:
        """Count nothing."""

    def figures(self) -> DriftFigures:
        """Nothing was counted."""
        return DriftFigures()


@contextmanager
def off() -> Iterator[None]:
    """Steps without anything that only looks."""

    def unread(*_: Any, **__: Any) -> Any:
        return mock.Mock(drift=None, gate=mock.Mock(applied=None))

    def uncounted(*_: Any) -> tuple[dict[str, torch.Tensor], dict[int, Any]]:
        return {"nonfinite_tokens": torch.zeros(())}, {}

    def without_entropy(self: Policy, batch: Any, temperature: float, *, entropy: bool = False) -> Any:
        return logprobs(self, batch, temperature)

    logprobs = Policy.logprobs
    with (
        mock.patch.object(losses, "readings_of", unread),
        mock.patch.object(losses, "by_bucket", uncounted),
        mock.patch("services.learner.model.trainer.DriftTable", Nothing),
        mock.patch("services.learner.model.token_log.TokenLog.add", lambda *_: None),
        mock.patch.object(Policy, "logprobs", without_entropy),
    ):
        yield


def cpu_seconds(action: Callable[[], None]) -> float:
    """CPU time of one call, this process's threads together."""
    started = time.process_time()
    action()
    return time.process_time() - started


def scrape(address: str) -> int:
    """Fetch a page; the number of its series."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return sum(not line.startswith(b"#") for line in answer)


def steps_in_turns(layout: Layout, spec: JobSpec, url: str, steps: int) -> list[tuple[float, float]]:
    """(on, off) CPU seconds of each pair of steps."""
    client = connect(url)
    record = JobRecord(
        id=spec.job_id, created_at=int(time.time()), request={}, spec=spec, rollout_workers=1, reward_workers=1
    )
    Jobs(client).create(record)
    trainer = Trainer(spec, Policy(layout.model("tiny"), torch.device("cpu")))
    reporter = Reporter(spec, client, layout)
    samples = Samples(layout.job(spec.job_id).samples, layout.model("tiny"))
    page = exporter.serve()
    batch = groups()
    waits = StepWaits(batch=0.1, staleness=0.0, publish=0.0, checkpoint=0.0)

    def watched(step: int) -> None:
        figures = trainer.train(batch, 1)
        said = {name: getattr(figures, name) for name in figures.model_fields_set}
        record = StepRecord(**said, step=step, time=time.time(), groups=1, seconds=1.0, waits=waits, replayed=False)
        reporter.step(record, tokens=1)
        samples.add(step, batch[0], trainer.token_log.read)
        if step % SCRAPE_EVERY == 0:
            scrape(page.address)

    def plain(step: int) -> None:
        with off():
            trainer.train(batch, 1)

    pairs = []
    for step in range(-2, steps):
        first, second = (watched, plain) if step % 2 else (plain, watched)  # whoever is second finds warm caches
        seconds = {action: cpu_seconds(partial(action, max(0, step))) for action in (first, second)}
        on, bare = seconds[watched], seconds[plain]
        if step >= 0:  # the first two warm up
            pairs.append((on, bare))
        if step % 25 == 0:
            print(f"step {step}: on {on * 1000:.0f} ms, off {bare * 1000:.0f} ms", flush=True)
    page.close()
    return pairs


def many_exporters() -> tuple[int, float]:
    """Series of 64 workers' pages, and the wall seconds in which all are scraped."""
    pages = []
    for _ in range(EXPORTERS):
        meters = Meters()
        for metric in (metric for metric in METRICS if metric.source == "worker"):
            labels: dict[str, Any] = dict.fromkeys(metric.labels, "1")
            if metric.name in BULK:
                meters.add_bins(metric.name, [1.0] * (len(metric.buckets) + 1), 1.0, **labels)
            elif metric.kind == "histogram":
                meters.observe(metric.name, 0.1, **labels)
            else:
                meters.count(metric.name, **labels)
        pages.append(exporter.serve((meters.registry,)))
    scrape(pages[0].address)
    started = time.perf_counter()
    series = sum(scrape(page.address) for page in pages)
    seconds = time.perf_counter() - started
    for page in pages:
        page.close()
    return series, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="sspo-bench-") as folder:
        layout, server = Layout(Path(folder) / "data"), RedisServer(Path(folder), durable=True)
        write_model(layout.models / "tiny")
        server.start()
        try:
            pairs = steps_in_turns(layout, job(), server.url, arguments.steps)
        finally:
            server.kill()
    on, bare = (sum(column) for column in zip(*pairs, strict=True))
    middle = statistics.median(a / b for a, b in pairs)
    tokens = GROUPS * MEMBERS * (PROMPT + COMPLETION)
    print(
        f"{len(pairs)} steps of {tokens} tokens: on {on:.2f} s, off {bare:.2f} s of CPU: +{100 * (on / bare - 1):.2f} %"
    )
    print(f"median of the pairs: +{100 * (middle - 1):.2f} %")
    series, seconds = many_exporters()
    print(f"{EXPORTERS} exporters in one process: {series} series scraped in {1000 * seconds:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
