"""From a sampled group to its payload for the learner: rewards for all trajectories, or one typed failure.

Invariants: a failure passes through byte for byte; an unreadable payload becomes a failure that still names the group's
number.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from services.job.spec import JobSpec
from services.job.strict_json import JsonObject
from services.observability.meters import METERS
from services.reward.errors import GradingFailed
from services.reward.graders import GraderResult
from services.reward.sandbox import GraderProcess
from services.reward.tokens import CompletionDecoder
from services.trajectories.codec import MalformedMessage, OversizedMessage, encode
from services.trajectories.entries import Entry
from services.trajectories.failed_group import failed_entry, failed_group
from services.trajectories.outcomes import DropReason, GroupFailed
from services.trajectories.reading import read_group
from sspo_proto.trajectory_pb2 import Group, Reward

BACK_OFF_SECONDS = 0.1
"""Before the second try of a grader call; doubles with each further one."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Scored:
    """The outcome of one entry: the payload that goes on (b"" for an entry without a number), and the failure if it
    could not be read at all."""

    payload: bytes
    failure: GroupFailed | None = None


class Scorer:
    """Grades groups of one job, one at a time. `on_progress` is called before every grader call, and while waiting
    for one about every second; what it raises ends the group's grading."""

    def __init__(
        self, spec: JobSpec, worker_id: str, decoder: CompletionDecoder, on_progress: Callable[[], None]
    ) -> None:
        self._spec = spec
        self._worker_id = worker_id
        self._decoder = decoder
        self._on_progress = on_progress
        self._process = GraderProcess(on_wait=on_progress)

    def start(self) -> None:
        """Start the grader process. Raises GraderNotStarted."""
        self._process.start()

    def close(self) -> None:
        """End the grader process."""
        self._process.close()

    def score(self, entry: Entry) -> Scored:
        """Grade one group. Raises GraderNotStarted when no grader process can be started: not the group's fault."""
        try:
            return Scored(self._score(entry))
        except GroupFailed as error:
            failed = failed_entry(self._spec.job_id, entry, error)
            return Scored(self._signed(failed) if failed else b"", error)

    def _score(self, entry: Entry) -> bytes:
        """The payload that goes on. Raises GroupFailed for a group of which only the number can go on."""
        group = read_group(entry, self._spec.job_id)
        if group.HasField("failure"):
            return entry.payload
        texts, item = self._read(group)
        try:
            results = [self._grade(text, item) for text in texts]
        except GradingFailed as error:
            failure = GroupFailed(DropReason.GRADER_FAILED, error.code, error.detail)
            return self._signed(failed_group(group, failure))
        for trajectory, result in zip(group.trajectories, results, strict=True):
            trajectory.reward.CopyFrom(Reward(value=result.value, components=result.components))
        try:
            return self._signed(group)
        except OversizedMessage as error:
            raise OversizedMessage(f"when scored: {error}") from error

    def _read(self, group: Group) -> tuple[list[str], JsonObject]:
        """Completion texts and the item. Raises MalformedMessage."""
        task = group.task
        try:
            item = json.loads(task.item_json)
        except (ValueError, RecursionError) as error:
            raise MalformedMessage(f"item_json: {error}") from error
        if not isinstance(item, dict):
            raise MalformedMessage("item_json: not an object")
        stop_token_ids = frozenset(task.sampling.stop_token_ids)
        return [self._decoder.text(trajectory, stop_token_ids) for trajectory in group.trajectories], item

    def _grade(self, text: str, item: JsonObject) -> GraderResult:
        """One reward; transient errors are tried again. Raises GradingFailed."""
        attempts, back_off_seconds = self._spec.reward.attempts, BACK_OFF_SECONDS
        while True:
            self._on_progress()
            try:
                return self._call(text, item)
            except GradingFailed as error:
                attempts -= 1
                if not error.transient or attempts == 0:
                    raise
            time.sleep(back_off_seconds)
            back_off_seconds *= 2

    def _call(self, text: str, item: JsonObject) -> GraderResult:
        self._process.start()
        started = time.monotonic()
        try:
            return self._process.grade(
                self._spec.grader, {"output_text": text}, item, self._spec.reward.timeout_seconds
            )
        except GradingFailed as error:
            METERS.count("sspo_grader_errors_total", grader=str(self._spec.grader["type"]), error=error.code)
            log.warning("grader_failed", job=self._spec.job_id, code=error.code, detail=error.detail)
            raise
        finally:
            METERS.observe("sspo_grader_seconds", time.monotonic() - started, grader=str(self._spec.grader["type"]))

    def _signed(self, group: Group) -> bytes:
        group.reward_worker = self._worker_id
        group.scored_at = time.time()
        return encode(group)
