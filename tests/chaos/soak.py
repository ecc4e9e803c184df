"""A long calm job: does any process keep what it should give back?

    python -m tests.chaos.soak --minutes 30 [--report FILE]

Compares resident memory (RSS, as `ps` shows it) and open descriptors of every process at the end with those at a third
of the run, and prints what Redis and its file hold per step. Ends with 1 when a process has grown by more than 5 %, or
its descriptors have. Anonymous memory, the part that belongs to no file, is shown beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from services.store.client import connect
from tests.chaos.victims import kind_of
from tests.support.service import RunningService

EVERY_SECONDS = 10.0
MOST_GROWTH = 1.05
NEIGHBOURS = 6
"""Samples on either side of a moment that its figure is the median of: one sample is noise."""
JOB = {"batch_size": 8, "updates_per_step": 1, "max_staleness": 4, "steps": 1_000_000, "checkpoint_every": 50}


@dataclass
class Sample:
    """One look at everything."""

    seconds: float
    step: int
    redis_bytes: int
    redis_file_bytes: int
    memory: dict[str, int] = field(default_factory=dict)
    """Anonymous bytes by process, kind and pid."""
    resident: dict[str, int] = field(default_factory=dict)
    """All resident bytes, pages of programs among them."""
    descriptors: dict[str, int] = field(default_factory=dict)


def look(service: RunningService, job_id: str, started: float) -> Sample:
    store = connect(f"unix://{service.layout.runtime / 'redis.sock'}")
    sample = Sample(
        seconds=time.monotonic() - started,
        step=service.view(job_id)["step"],
        redis_bytes=int(store.info("memory")["used_memory"]),
        redis_file_bytes=sum(file.stat().st_size for file in service.layout.redis.iterdir()),
    )
    store.close()
    for process in service.family():
        try:
            kind = kind_of(process.cmdline())
            if kind is not None:
                name = f"{kind.value} {process.pid}"
                sample.memory[name] = anonymous_bytes(process.pid)
                sample.resident[name] = process.memory_info().rss
                sample.descriptors[name] = process.num_fds()
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue
    return sample


def anonymous_bytes(pid: int) -> int:
    """Resident memory of a process that belongs to no file."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise ProcessLookupError(pid)


def around(samples: list[Sample], seconds: float) -> list[Sample]:
    nearest = min(range(len(samples)), key=lambda i: abs(samples[i].seconds - seconds))
    return samples[max(0, nearest - NEIGHBOURS) : nearest + NEIGHBOURS + 1]


def median(values: list[int]) -> float:
    return float(sorted(values)[len(values) // 2])


def report(samples: list[Sample], minutes: float) -> bool:
    """Print the tables. Returns whether nothing grew."""
    early, late = around(samples, minutes * 20), around(samples, minutes * 60)
    table = Table(title=f"minute {minutes / 3:.0f} against minute {minutes:.0f}")
    columns = (
        "process",
        "RSS MiB then",
        "at the end",
        "ratio",
        "anonymous then",
        "at the end",
        "fds then",
        "at the end",
    )
    for column in columns:
        table.add_column(column)
    calm = True
    for name in sorted(set(early[0].memory) & set(late[-1].memory)):
        then, end = (median([s.resident[name] for s in part if name in s.resident]) for part in (early, late))
        anonymous = [median([s.memory[name] for s in part if name in s.memory]) for part in (early, late)]
        fds = [median([s.descriptors[name] for s in part if name in s.descriptors]) for part in (early, late)]
        calm &= end <= MOST_GROWTH * then and fds[1] <= fds[0]
        figures = (
            f"{then / 2**20:.1f}",
            f"{end / 2**20:.1f}",
            f"{end / then:.3f}",
            *(f"{value / 2**20:.1f}" for value in anonymous),
            f"{fds[0]:.0f}",
            f"{fds[1]:.0f}",
        )
        table.add_row(name, *figures)
    Console(width=120).print(table)
    replaced = set(samples[0].memory) ^ set(samples[-1].memory)
    print(f"processes that came or went: {sorted(replaced) or 'none'}")
    first, last = early[0], late[-1]
    steps = max(1, last.step - first.step)
    print(
        f"steps {first.step} to {last.step}; in Redis per step: {(last.redis_bytes - first.redis_bytes) / steps:.0f} B"
    )
    print(f"Redis at the end: {last.redis_bytes / 2**20:.1f} MiB, its file {last.redis_file_bytes / 2**20:.1f} MiB")
    return calm


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--report", type=Path, help="write all samples there, as JSON lines")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sspo-soak-") as folder:
        service = RunningService(Path(folder))
        service.prepare()
        service.start()
        try:
            job_id = service.submit(learner=JOB)
            service.wait_for(job_id, lambda view: view["step"] >= 2, 180)
            started, samples = time.monotonic(), []
            while time.monotonic() - started < arguments.minutes * 60:
                samples.append(look(service, job_id, started))
                if len(samples) % 6 == 1:
                    print(f"minute {samples[-1].seconds / 60:4.1f}: step {samples[-1].step}", flush=True)
                time.sleep(EVERY_SECONDS)
            calm = report(samples, arguments.minutes)
            if arguments.report:
                arguments.report.write_text("".join(json.dumps(asdict(sample)) + "\n" for sample in samples))
            return 0 if calm else 1
        finally:
            service.stop()


if __name__ == "__main__":
    sys.exit(main())
