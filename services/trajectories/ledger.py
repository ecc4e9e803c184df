"""The place of every group of a job, in one consistent look.

`issued` is the cursor, `trained` and `dropped` come from the numbers that the learner finished, `in_flight` are the
numbers *found* in the streams (by their indexes, which the same Lua calls keep: no payload is read). The ledger
balances when every number below the cursor is finished or found.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.store import keys
from services.store.client import Client, call
from services.trajectories.entries import TRAINING_STREAMS
from services.trajectories.outcomes import TRAINED
from services.trajectories.stream_stats import pairs

COUNT_PREFIX = "count:"


@dataclass(frozen=True)
class LedgerSnapshot:
    """Counts of groups. `missing` lists numbers below the cursor that are neither finished nor in a stream."""

    issued: int
    trained: int
    dropped: dict[str, int]
    in_flight: int
    in_streams: dict[str, int]
    missing: tuple[int, ...]

    @property
    def balanced(self) -> bool:
        """Every number below the cursor is finished or found."""
        return not self.missing and self.issued == self.trained + sum(self.dropped.values()) + self.in_flight


class Ledger:
    """Reads the ledger of a job."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def snapshot(self, job_id: str) -> LedgerSnapshot:
        """One Lua call over cursor, bitmap, counts and streams."""
        key_list = [keys.cursor(job_id), keys.finished(job_id), keys.progress(job_id)]
        key_list += pairs(job_id, TRAINING_STREAMS)
        cursor, _finished, flat, in_flight, per_stream, missing = call(self._client, "ledger", key_list)
        fields = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        counts = {
            name.removeprefix(COUNT_PREFIX): int(value)
            for name, value in fields.items()
            if name.startswith(COUNT_PREFIX)
        }
        trained = counts.pop(TRAINED, 0)
        in_streams = dict(zip(TRAINING_STREAMS, (int(n) for n in per_stream), strict=True))
        return LedgerSnapshot(int(cursor), trained, counts, int(in_flight), in_streams, tuple(int(n) for n in missing))
