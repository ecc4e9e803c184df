"""The end of a job: groups that are left are dropped as `job_end` in the journal, and the streams are removed.

It runs after all actors of the job are gone, so it is the only writer of the journal. A repeat changes nothing.
"""

from __future__ import annotations

from services.disk.layout import Layout
from services.journal.journal import Draft, Journal
from services.journal.lineage import finished_numbers, surviving
from services.journal.record import Header
from services.store import keys
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.entries import EVALUATION_STREAMS, TRAINING_STREAMS
from services.trajectories.outcomes import DropReason
from services.trajectories.progress import Progress


def close_job(client: Client, layout: Layout, job_id: str) -> None:
    """Write the closing record, finish the numbers it names, delete the streams. Raises JournalDamaged.

    Dead letters stay: they are bounded, they are no part of the ledger, and people may look at them later.
    """
    cursor = streams.cursor(client, job_id)
    folder = layout.job(job_id).journal
    if cursor or folder.exists():
        _close_journal(client, Journal(folder), job_id, cursor)
    streams.delete(client, job_id, (*TRAINING_STREAMS, *EVALUATION_STREAMS))
    client.delete(keys.wishes(job_id), keys.origins(job_id))


def _close_journal(client: Client, journal: Journal, job_id: str, cursor: int) -> None:
    epoch = journal.claim_epoch()
    headers: list[Header] = list(journal.headers())
    next_step = len(surviving(headers))
    if not any(header.kind == "close" for header in headers):
        cursor = max([cursor, *(header.cursor for header in headers)])
        finished = {number for numbers in finished_numbers(headers).values() for number in numbers}
        left = [number for number in range(cursor) if number not in finished]
        draft = Draft(
            kind="close",
            step=next_step,
            cursor=cursor,
            dropped={DropReason.JOB_END.value: left},
            policy_version=max((header.policy_version for header in headers), default=0),
        )
        headers.append(journal.commit(draft))
    Progress(client).assert_training(
        job_id,
        epoch=epoch,
        next_step=next_step,
        cursor_at_least=max(header.cursor for header in headers),
        numbers=finished_numbers(headers),
        clear=TRAINING_STREAMS,
    )
