"""What Redis was told of training, and by whom."""

from __future__ import annotations

import tempfile
from pathlib import Path

from services.store.client import connect
from services.trajectories.progress import Progress
from tests.support.redis_server import RedisServer

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
