"""The progress of training in Redis: the learner writes it, everyone else reads it.

The journal is the truth: a learner can restore everything important here from it (`assert_training`). Finishing,
asserting and publishing carry the learner's epoch, and Redis refuses a lower one (`Fenced`). What `set` writes (phase,
wishes for evaluation, token counts, how far ahead groups are issued) carries none: the next `set` puts it right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from services.store import answers, keys
from services.store.client import Client, CommandRefused, call, run_of
from services.trajectories.entries import SCORED
from services.trajectories.outcomes import Fenced
from services.trajectories.stream_stats import pairs

NOTHING = "-1"
"""How None is stored, since a hash has no such value; no field has a negative number."""


@dataclass(frozen=True)
class ProgressRecord:
    """Zero and empty values mean: nothing yet."""

    epoch: int = 0
    next_step: int = 0
    """The step the learner assembles or trains next; all below are committed."""
    asserted_epoch: int = 0
    """Epoch of the last learner that asserted its journal."""
    asserted_run: str = ""
    """The run of Redis that received that assertion."""
    policy_version: int = 0
    published_step: int = 0
    published_path: str = ""
    phase: str = ""
    """What the learner does: starting, replaying, waiting_for_batch, training, publishing, finished, ..."""
    evaluation_step: int | None = None
    """Newest step for which the learner asked for an evaluation; None before the first."""
    evaluation_cut: int = 0
    """Records of the journal when training last went back.

    It grows each time training goes back. Evaluations of steps after `evaluation_step` are then of undone weights.
    """
    trained_tokens: int = 0
    staleness_window: int | None = None
    """Steps that groups may be issued ahead, if the guard has lowered the job's number; None: the job's number
    holds."""
    records: int = 0
    """Records of the journal when the phase last changed: a disk that holds fewer has lost some."""


def _record(values: Mapping[str, str]) -> ProgressRecord:
    """Fields that this version doesn't know are passed over."""
    known: dict[str, Any] = {}
    for field in fields(ProgressRecord):
        value = values.get(field.name)
        if value is not None and value != NOTHING:
            known[field.name] = value if isinstance(field.default, str) else int(value)
    return ProgressRecord(**known)


class Progress:
    """Reads and writes the progress of a job."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, job_id: str) -> ProgressRecord:
        """The record; defaults where nothing was written."""
        stored: Any = self._client.hgetall(keys.progress(job_id))
        return _record(answers.fields(stored))

    def asserted(self, known: ProgressRecord) -> bool:
        """Whether the learner in charge has told this run of Redis what its journal says; dispatch waits for it.

        A Redis that was restarted may have forgotten the last things that happened, and not know it.
        """
        return 0 < known.epoch == known.asserted_epoch and known.asserted_run == run_of(self._client)

    def set(self, job_id: str, **fields: str | int | None) -> None:
        """Write plain fields of the record (phase, evaluation_step, trained_tokens)."""
        mapping: Any = {name: NOTHING if value is None else value for name, value in fields.items()}
        self._client.hset(keys.progress(job_id), mapping=mapping)

    def finish(
        self,
        job_id: str,
        *,
        epoch: int,
        next_step: int,
        numbers: Mapping[str, Sequence[int]],
        entry_ids: Sequence[str],
    ) -> None:
        """Finish numbers by outcome ("trained" or a drop reason), remove their entries. Idempotent; raises Fenced.

        The tokens of entries that leave untrained are counted as wasted, by the outcome of their number.
        """
        key_list = [keys.progress(job_id), keys.finished(job_id), *pairs(job_id, [SCORED])]
        key_list += [keys.deaths(job_id), keys.tallies(job_id)]
        named, entries = json.dumps(numbers), json.dumps(list(entry_ids))
        self._fenced("finish", key_list, [epoch, next_step, named, entries])

    def assert_training(
        self,
        job_id: str,
        *,
        epoch: int,
        next_step: int,
        cursor_at_least: int,
        numbers: Mapping[str, Sequence[int]],
        clear: Sequence[str] = (SCORED,),
    ) -> None:
        """Replace what Redis knows of finished numbers by what the journal says. Raises Fenced.

        Entries of finished numbers leave the streams of `clear`: if a learner died after its commit, nobody else
        removes them. Their tokens are counted as in `finish`.
        """
        key_list = [keys.progress(job_id), keys.finished(job_id), keys.cursor(job_id), keys.tallies(job_id)]
        key_list += pairs(job_id, clear)
        self._fenced("assert_training", key_list, [epoch, next_step, cursor_at_least, json.dumps(numbers)])

    def publish(self, job_id: str, *, epoch: int, version: int, step: int, path: str) -> None:
        """Name the newest weights. Raises Fenced when the epoch is behind or the version does not grow."""
        self._fenced("publish", [keys.progress(job_id)], [epoch, version, step, path])

    def _fenced(self, script: str, key_list: list[str], arguments: list[str | int]) -> None:
        try:
            call(self._client, script, key_list, arguments)
        except CommandRefused as error:
            if "FENCED" in str(error):
                raise Fenced(str(error)) from error
            raise
