"""The service under chaos: `sspo up` with the fault points switched on, and what can be seen of it from outside.

Nothing here trusts one part to tell of another: processes come from the operating system, progress from the journal's
folder, who is ready from Redis, a job's state from the API; each of them may be down.
"""

from __future__ import annotations

import random
import uuid
from pathlib import Path
from typing import Any

import psutil
from openai import OpenAIError

from services.records.worker import WorkerRecord
from services.store import keys
from services.store.client import StoreError, connect
from services.store.job.registry import Registry
from services.weights.file_store import versions
from tests.chaos.cut import Cut, cut
from tests.chaos.points import FOLDER, Points
from tests.chaos.subject import prepare
from tests.chaos.victims import MARK, Family, alive
from tests.support.service import RunningService
from tests.support.waiting import wait_until

LOOK_SECONDS = 5.0
ENDED = ("succeeded", "failed", "cancelled")


class Target:
    """One data folder and the service on it."""

    def __init__(self, data: Path) -> None:
        self.points = Points(data / "faults")
        self.family: Family | None = None
        self._mark = uuid.uuid4().hex
        self.service = RunningService(data, {FOLDER: str(self.points.folder), MARK: self._mark})
        self.layout = self.service.layout

    def start(self) -> None:
        """Write model and data, start the service, begin to watch its family."""
        self.service.use(prepare(self.layout))
        self.service.start()
        assert self.service.process is not None
        self.up = psutil.Process(self.service.process.pid)
        self.family = Family(self.up.pid, self._mark)
        self.redis = connect(f"unix://{self.layout.runtime / 'redis.sock'}", patience_seconds=0.0)

    def stop(self) -> list[str]:
        """End the service; returns what outlived it."""
        self.service.stop()
        if self.family is None:
            return []
        self.family.close()
        return self.family.survivors()

    # --- what can be seen

    def view(self, job_id: str) -> dict[str, Any] | None:
        """What the API says of a job; None while it does not answer."""
        client = self.service.client.with_options(max_retries=0, timeout=LOOK_SECONDS)
        try:
            return client.get(f"/x/jobs/{job_id}", cast_to=dict[str, Any])
        except OpenAIError:
            return None

    def status(self, job_id: str) -> str:
        """A job's status from Redis; "" while Redis is down."""
        try:
            return str(self.redis.hget(keys.job(job_id), "status").decode()).strip('"')
        except (StoreError, AttributeError):
            return ""

    def workers(self, job_id: str) -> list[WorkerRecord]:
        """What the workers whose processes live say of themselves; empty while Redis is down."""
        try:
            return [worker for worker in Registry(self.redis).list(job_id) if psutil.pid_exists(worker.pid)]
        except StoreError:
            return []

    def controller_pid(self) -> int | None:
        """The process that holds the controllers' lease."""
        try:
            holder: Any = self.redis.get(keys.CONTROLLER)
        except StoreError:
            return None
        return int(holder.decode().rsplit("-", 2)[1]) if holder else None

    def records(self, job_id: str) -> int:
        """Records in the job's journal: progress that no process has to tell."""
        return sum(1 for _ in self.layout.job(job_id).journal.glob("*.rec"))

    def version(self, job_id: str) -> int:
        """The newest weights on disk."""
        return max(versions(self.layout.job(job_id).weights), default=0)

    def story(self, job_id: str) -> list[str]:
        """The job's last events, for a report."""
        try:
            rows: Any = self.redis.xrevrange(keys.events(job_id), count=8)
        except StoreError as error:
            return [f"no events: {error}"]
        return [fields[b"message"].decode()[:240] for _, fields in reversed(rows)]

    # --- what can be done

    def cut_redis(self, server: psutil.Process, job_id: str, commits: int, dice: random.Random) -> Cut:
        """Kill Redis and shorten its file while its supervisor can't start it again. Raises NotCut."""
        self.up.suspend()
        try:
            server.kill()
            wait_until(lambda: not alive(server), 10)
            return cut(self.layout.redis / "appendonly.aof", job_id, commits, dice)
        finally:
            self.up.resume()
