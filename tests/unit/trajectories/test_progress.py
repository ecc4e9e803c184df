"""What Redis was told of training, and by whom."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from services.store import keys
from services.store.client import Client, CommandRefused, connect
from services.trajectories.progress import Progress, ProgressRecord
from testbed.redis_server import RedisServer

JOB = "ftjob-1"


def test_a_redis_that_was_restarted_has_to_be_told_again() -> None:
    with tempfile.TemporaryDirectory(prefix="sspo-") as folder:
        server = RedisServer(Path(folder), durable=True)
        server.start()
        client = connect(server.url, patience_seconds=10)
        progress = Progress(client)

        def tell(epoch: int) -> None:
            progress.assert_training(JOB, epoch=epoch, next_step=2, cursor_at_least=8, numbers={"trained": [0, 1]})

        assert not progress.asserted(progress.read(JOB)), "nobody said anything"
        tell(1)
        assert progress.asserted(progress.read(JOB))
        server.kill()
        server.start()
        known = progress.read(JOB)
        assert (known.epoch, known.asserted_epoch, known.next_step) == (1, 1, 2), "nothing was lost this time"
        assert not progress.asserted(known), "but nobody can tell"
        tell(1)
        assert progress.asserted(progress.read(JOB))
        client.close()
        server.kill()


def test_a_job_of_which_nothing_is_known_has_neither_steps_nor_wishes(client: Client) -> None:
    known = Progress(client).read(JOB)
    assert known == ProgressRecord()
    assert (known.epoch, known.next_step, known.asserted_epoch, known.records, known.trained_tokens) == (0, 0, 0, 0, 0)
    assert (known.policy_version, known.published_step, known.published_path, known.phase) == (0, 0, "", "")
    assert (known.evaluation_step, known.evaluation_cut, known.staleness_window) == (None, 0, None)


def test_what_is_set_is_read_back_and_what_a_newer_version_wrote_is_left_alone(client: Client) -> None:
    progress = Progress(client)
    progress.set(JOB, phase="training", evaluation_step=7, trained_tokens=11)
    progress.set(JOB, from_another_version="1.5")
    known = progress.read(JOB)
    assert (known.phase, known.evaluation_step, known.trained_tokens) == ("training", 7, 11)


def test_a_learner_that_died_before_it_said_anything_has_asserted_nothing(client: Client) -> None:
    progress = Progress(client)
    progress.assert_training(JOB, epoch=1, next_step=0, cursor_at_least=0, numbers={})
    progress.finish(JOB, epoch=2, next_step=1, numbers={"trained": [0]}, entry_ids=[])
    assert not progress.asserted(progress.read(JOB)), "epoch 2 has not said what its journal holds"


def test_a_refusal_that_is_no_fence_is_told_as_it_is(client: Client) -> None:
    client.set(keys.progress(JOB), "not a hash")
    with pytest.raises(CommandRefused, match="WRONGTYPE"):
        Progress(client).publish(JOB, epoch=1, version=1, step=0, path="/v1")


def test_what_is_taken_back_is_none_again_and_so_is_what_older_versions_wrote(client: Client) -> None:
    progress = Progress(client)
    progress.set(JOB, staleness_window=0, evaluation_step=0)
    assert (progress.read(JOB).staleness_window, progress.read(JOB).evaluation_step) == (0, 0)
    progress.set(JOB, staleness_window=None, evaluation_step=-1)
    assert (progress.read(JOB).staleness_window, progress.read(JOB).evaluation_step) == (None, None)
