"""Counts of what happened on the way."""

from __future__ import annotations

import time

from services.store.client import Client
from services.trajectories.tallies import REDELIVERED, RESTARTS, Tallies, TallyRecord

JOB = "ftjob-1"


def test_a_job_to_which_nothing_happened_has_no_counts(client: Client) -> None:
    found = Tallies(client).read(JOB)
    assert found == TallyRecord() and found.group_bytes == 0.0
    assert (found.forgotten_letters, found.canary_failures, found.canary_failed_at) == (0, 0, 0)
    assert (found.sampled_groups, found.sampled_bytes) == (0, 0)


def test_counts_add_up_under_their_own_names(client: Client) -> None:
    tallies = Tallies(client)
    tallies.waste(JOB, "stale", 5)
    tallies.waste(JOB, "stale", 2)
    tallies.waste(JOB, "duplicate", 1)
    tallies.count(JOB, f"{RESTARTS}rollout")
    tallies.count(JOB, f"{REDELIVERED}prompts", 3)
    tallies.count(JOB, "sampled_groups", 4)
    tallies.count(JOB, "sampled_bytes", 10)
    found = tallies.read(JOB)
    assert found.wasted_tokens == {"duplicate": 1, "stale": 7}
    assert (found.restarts, found.redelivered, found.dead_letters) == ({"rollout": 1}, {"prompts": 3}, {})
    assert found.group_bytes == 2.5
    assert Tallies(client).read("ftjob-2") == TallyRecord()


def test_an_engine_that_answered_wrongly_is_counted_with_its_time(client: Client) -> None:
    tallies = Tallies(client)
    tallies.canary_failed(JOB)
    tallies.canary_failed(JOB)
    found = tallies.read(JOB)
    assert found.canary_failures == 2 and abs(found.canary_failed_at - time.time()) < 30
