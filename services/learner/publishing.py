"""Publishing of weights: a version folder with its canary on disk, then its name in Redis.

`policy_version` only grows, past everything that Redis, the weight store or the journal know of. A learner that a newer
one has replaced publishes nothing: the disk says so, whatever Redis remembers.
"""

from __future__ import annotations

from pathlib import Path

import torch

from services.faults import fault
from services.job.spec import JobSpec, derived_seed
from services.journal.journal import Journal
from services.learner.model.policy import Policy
from services.trajectories.progress import Progress
from services.weights.canary import canary_tokens, compute
from services.weights.file_store import collect_garbage, publish, versions
from services.weights.manifest import Canary

KEEP_VERSIONS = 4


class Publisher:
    """The versions of one job, as one learner publishes them."""

    def __init__(self, spec: JobSpec, progress: Progress, folder: Path, journal: Journal, policy: Policy) -> None:
        self._spec = spec
        self._progress = progress
        self._folder = folder
        self._journal = journal
        self._policy = policy
        self._tokens = canary_tokens(policy.vocab_size, derived_seed(spec.seed, "canary"))
        self._newest: tuple[Path, int] | None = None
        self.version = 0
        """Highest version known."""

    def publish(self, step: int) -> None:
        """Publish the policy as the weights after `step` steps. Raises Fenced."""
        fault("learner.before_publish")
        self._journal.check_epoch()
        stored = max(versions(self._folder), default=0)
        known = self._progress.read(self._spec.job_id).policy_version
        self.version = max(self.version, stored, known) + 1
        path = publish(
            self._folder,
            self._policy.tensors(),
            version=self.version,
            step=step,
            canary=Canary(token_ids=self._tokens, logprobs=compute(self._policy.model, self._tokens)),
            model_files=self._policy.folder,
            dtype=getattr(torch, self._spec.rollout.dtype),
        )
        self._newest = (path, step)
        fault("learner.during_publish")
        self.name()
        fault("learner.after_publish")
        collect_garbage(self._folder, keep=KEEP_VERSIONS)

    def name(self) -> None:
        """Tell Redis where the newest weights are; repeating it changes nothing. Raises Fenced."""
        if self._newest is None:
            return
        path, step = self._newest
        self._journal.check_epoch()
        self._progress.publish(
            self._spec.job_id, epoch=self._journal.epoch, version=self.version, step=step, path=str(path)
        )
