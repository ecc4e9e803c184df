"""What killed processes leave in shared memory goes, and nothing else does."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from services.cli.up.shared_memory import SHARED_MEMORY, Segment, collect, held_by, recorded

HOLDER = """
import _multiprocessing, _posixshmem, mmap, os, sys
_multiprocessing.SemLock(1, 1, 1, "/" + sys.argv[1], False)  # as multiprocessing makes them, without its tracker
descriptor = _posixshmem.shm_open("/psm_" + sys.argv[1], os.O_CREAT | os.O_RDWR, mode=0o600)
os.ftruncate(descriptor, 4096)
held = mmap.mmap(descriptor, 4096)
lock = _multiprocessing.SemLock._rebuild(0, 1, 1, "/" + sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="no /dev/shm")


class Holder:
    """A process with a named semaphore and a named buffer."""

    def __init__(self) -> None:
        self.name = f"sspo-test-{uuid.uuid4().hex[:8]}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, self.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None and self.process.stdout.readline() == b"ready\n"
        self.names = [f"psm_{self.name}", f"sem.{self.name}"]

    def segments(self) -> list[Segment]:
        return sorted(held_by([psutil.Process(self.process.pid)]))

    def left(self) -> list[str]:
        return sorted(path.name for path in SHARED_MEMORY.glob(f"*{self.name}"))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def holder() -> Iterator[Callable[[], Holder]]:
    made: list[Holder] = []

    def make() -> Holder:
        made.append(Holder())
        return made[-1]

    yield make
    for each in made:
        each.kill()
        for name in each.names:
            (SHARED_MEMORY / name).unlink(missing_ok=True)


def test_what_a_killed_process_leaves_is_collected_and_what_lives_stays(holder: Callable[[], Holder]) -> None:
    ours, other = holder(), holder()
    segments = ours.segments()
    assert [segment.name for segment in segments] == ours.names, "found by inode: semaphores are mapped by other names"
    assert collect(segments) == [], "it is in use"
    ours.kill()
    other.kill()
    assert ours.left() == ours.names, "nobody else removes it"
    assert collect(segments) == segments
    assert ours.left() == [] and other.left() == other.names, "what was never recorded is not ours"


def test_a_name_that_was_given_away_again_is_left_alone(holder: Callable[[], Holder]) -> None:
    ours = holder()
    segments = ours.segments()
    ours.kill()
    path = SHARED_MEMORY / ours.names[0]
    path.rename(path.with_name(f"{path.name}-before"))
    path.write_bytes(b"another")
    collect(segments)
    assert path.read_bytes() == b"another"
    for found in SHARED_MEMORY.glob(f"{path.name}*"):
        found.unlink()


def test_the_next_run_reads_what_the_last_one_recorded(tmp_path: Path) -> None:
    state = tmp_path / "up.json"
    assert recorded(state) == []
    state.write_text(json.dumps({"processes": []}))
    assert recorded(state) == []
    state.write_text(json.dumps({"processes": [], "shared_memory": [{"name": "a", "inode": 7}]}))
    assert recorded(state) == [Segment("a", 7)]
