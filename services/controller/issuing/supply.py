"""Supplies one job's workers: with groups within the capacity, and with evaluations.

The dispatcher reads the whole dataset when it is made, so it is made beside the controller's loop.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import structlog

from services.controller.issuing.capacity import Capacity, Queued, capacity, largest_group_bytes, paced
from services.controller.issuing.dispatcher import Dispatcher
from services.controller.issuing.evaluation import Evaluation
from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.store.client import Client
from services.trajectories.entries import PROMPTS, SCORED, TRAINING_STREAMS, TRAJECTORIES
from services.trajectories.ledger import LedgerSnapshot
from services.trajectories.progress import ProgressRecord
from services.trajectories.stream_stats import forget_index, stream_stats
from services.trajectories.tallies import Tallies

log = structlog.get_logger()

MOST_DISPATCHED = 256
"""Groups issued in one look: the controller's lease must not run out meanwhile."""


class Supply:
    """Of one job."""

    def __init__(self, spec: JobSpec, client: Client, layout: Layout, pool: ThreadPoolExecutor) -> None:
        self._spec = spec
        self._client = client
        self._layout = layout
        self._pool = pool
        self._preparation: Future[Dispatcher] | None = None
        self._evaluation: Evaluation | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the dispatcher is made; asking begins to make it."""
        if self._preparation is None:
            forget_index(self._client, self._spec.job_id)  # what an earlier controller left need not be trusted
            self._preparation = self._pool.submit(Dispatcher, self._spec, self._client, self._layout)
        return self._preparation.done()

    def issue(self, progress: ProgressRecord, ledger: LedgerSnapshot) -> Capacity:
        """Issue what was lost again, then what there is room for; answers the room there was. Ask `is_ready` first."""
        dispatcher = self._dispatcher()
        if ledger.missing:
            again = dispatcher.reissue(ledger.missing[:MOST_DISPATCHED], progress.published_step)
            log.warning("groups_reissued", job=self._spec.job_id, missing=len(ledger.missing), reissued=again)
        room = capacity(
            paced(self._spec.learner, progress.staleness_window),
            next_step=progress.next_step,
            published_step=progress.published_step,
            trained=ledger.trained,
            in_flight=ledger.in_flight + len(ledger.missing),
            queued=queued_groups(self._client, self._spec),
        )
        dispatcher.dispatch(min(room.groups, MOST_DISPATCHED), progress.published_step)
        return room

    def evaluate(self, progress: ProgressRecord, *, is_manned: bool) -> bool:
        """Go on with the evaluation that the learner wants; answers whether one runs. Ask `is_ready` first."""
        if self._evaluation is None:
            self._evaluation = Evaluation(self._client, self._spec, self._dispatcher())
        self._evaluation.tick(
            progress.evaluation_step, went_back=progress.evaluation_cut, clock_stands_still=not is_manned
        )
        return self._evaluation.running

    def end_evaluation(self) -> None:
        """Forget the evaluation that runs; a job that is resumed begins it anew."""
        self._evaluation = None

    def _dispatcher(self) -> Dispatcher:
        assert self._preparation is not None, "is_ready comes first"
        return self._preparation.result(timeout=0)


def queued_groups(client: Client, spec: JobSpec) -> Queued:
    """Content of the training streams.

    A group is expected to have the mean size of the job's groups so far, or of the groups in the streams if that is
    larger.
    """
    stats = stream_stats(client, spec.job_id, TRAINING_STREAMS)
    sampled = [stats[TRAJECTORIES], stats[SCORED]]
    lying = sum(stream.bytes for stream in sampled) / max(1, sum(stream.entries for stream in sampled))
    so_far = Tallies(client).read(spec.job_id).group_bytes
    return Queued(
        bytes=sum(stream.bytes for stream in stats.values()),
        unsampled=stats[PROMPTS].entries,
        group_bytes=max(lying, so_far) or largest_group_bytes(spec.rollout),
    )
