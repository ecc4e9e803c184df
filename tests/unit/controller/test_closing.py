"""The end of a job, written down: every number has an outcome, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.controller.closing import close_job
from services.disk.layout import Layout
from services.journal.journal import Draft, Journal
from services.store import keys
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.entries import EVAL_PROMPTS, PROMPTS
from services.trajectories.ledger import Ledger
from services.trajectories.outcomes import Fenced
from services.trajectories.progress import Progress
from services.trajectories.stream_stats import stream_stats
from tests.support.audit import audit

JOB = "ftjob-1"


def test_a_job_that_never_began_leaves_no_journal(client: Client, tmp_path: Path) -> None:
    streams.prepare(client, JOB)
    close_job(client, Layout(tmp_path), JOB)
    assert not Layout(tmp_path).job(JOB).journal.exists()
    assert client.exists(keys.stream(JOB, PROMPTS)) == 0


def test_what_was_not_trained_ends_with_the_job(client: Client, tmp_path: Path) -> None:
    streams.prepare(client, JOB)
    for number in range(4):
        assert streams.dispatch(client, JOB, number, b"task", 0)
    streams.add_evaluation(client, JOB, 0, b"row", 0)
    folder = Layout(tmp_path).job(JOB).journal
    journal = Journal(folder)
    journal.claim_epoch()
    journal.commit(Draft(kind="step", step=0, cursor=6, groups=[(1, b"group")], policy_version=3))
    for _ in range(2):
        close_job(client, Layout(tmp_path), JOB)
        report = audit(folder)
        assert (report.records, report.steps, report.dropped, report.closed) == (2, 1, {"job_end": 5}, True)
        assert report.clean and report.last_cursor == 6, "Redis had forgotten that 4 and 5 were issued"
        closing = list(Journal(folder).headers())[-1]
        assert (closing.step, closing.policy_version, closing.kind) == (1, 3, "close")
        snapshot = Ledger(client).snapshot(JOB)
        assert (snapshot.issued, snapshot.trained, snapshot.dropped) == (6, 1, {"job_end": 5}) and snapshot.balanced
        stats = stream_stats(client, JOB)
        assert stats[PROMPTS].entries == stats[EVAL_PROMPTS].entries == 0
        assert Progress(client).read(JOB).next_step == 1
    with pytest.raises(Fenced):
        journal.commit(Draft(kind="step", step=1, cursor=7))


def test_a_job_that_redis_forgot_is_closed_by_its_journal(client: Client, tmp_path: Path) -> None:
    folder = Layout(tmp_path).job(JOB).journal
    journal = Journal(folder)
    journal.claim_epoch()
    journal.commit(Draft(kind="step", step=0, cursor=2, groups=[(0, b"group")]))
    close_job(client, Layout(tmp_path), JOB)
    assert audit(folder).dropped == {"job_end": 1} and streams.cursor(client, JOB) == 2
