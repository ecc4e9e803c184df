"""What the training streams of a job hold, as the pacing wants to know it."""

from __future__ import annotations

from services.controller.issuing.capacity import Queued, largest_group_bytes
from services.job.spec import JobSpec
from services.store.client import Client
from services.trajectories.entries import PROMPTS, SCORED, TRAINING_STREAMS, TRAJECTORIES
from services.trajectories.stream_stats import stream_stats
from services.trajectories.tallies import Tallies


def queued_groups(client: Client, spec: JobSpec) -> Queued:
    """A group is expected to be as large as those of the job so far, or as those that lie in the streams if larger."""
    stats = stream_stats(client, spec.job_id, TRAINING_STREAMS)
    sampled = [stats[TRAJECTORIES], stats[SCORED]]
    lying = sum(stream.bytes for stream in sampled) / max(1, sum(stream.entries for stream in sampled))
    so_far = Tallies(client).read(spec.job_id).group_bytes
    return Queued(
        bytes=sum(stream.bytes for stream in stats.values()),
        unsampled=stats[PROMPTS].entries,
        group_bytes=max(lying, so_far) or largest_group_bytes(spec.rollout),
    )
