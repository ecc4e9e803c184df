"""How many groups may be issued now: pure arithmetic over steps, and nothing else paces the rollout workers."""

from __future__ import annotations

from services.spec import LearnerSpec


def capacity(learner: LearnerSpec, *, next_step: int, published_step: int, trained: int, in_flight: int) -> int:
    """Groups that may be issued.

    Two bounds. What the remaining steps need: so that a job that ends leaves nothing behind. The staleness window: a
    group issued now is trained at most `max_staleness` steps later when groups are trained oldest first. A synchronous
    job issues a batch only once the weights of the step are published, and nothing beyond it.
    """
    needed = learner.steps * learner.batch_size - trained - in_flight
    if learner.synchronous and published_step < next_step:
        return 0
    ahead = 0 if learner.synchronous else learner.max_staleness
    window = (next_step + 1 + ahead) * learner.batch_size - trained - in_flight
    return max(0, min(needed, window))
