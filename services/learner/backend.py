"""The seam between the order of things and the arithmetic: everything that the learner asks of a model.

Everything above it (loop, training, journal, books, retention, guard) knows no torch. One process with one device is
`services.learner.model.local`; several ranks, adapters or another device are other implementations.

Invariants: `train` is deterministic in (state, groups, step, spec), so that a replay of a journaled step gives the same
bits on the same machine; nothing but `train` and `load` changes the state; a `Capture` stays as it was taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.job.spec import JobSpec
from services.records.ratios import RatioFigures
from services.records.samples import GateCurve
from services.records.step import StepFigures
from sspo_proto.trajectory_pb2 import Group


@dataclass(frozen=True)
class TrainingState:
    """Counters that belong to the weights."""

    next_step: int = 0
    updates: int = 0
    skipped_updates: int = 0
    trained_tokens: int = 0


@dataclass(frozen=True)
class TokenWeights:
    """Effect of a step on the tokens of one trajectory."""

    advantage: float
    log_ratios: Sequence[float]
    """policy − behaviour log-prob, a value a token."""
    weights: Sequence[float]
    """By how much the token's gradient differs from REINFORCE."""


@dataclass(frozen=True)
class Comparison:
    """A part of the state beside the same part of a checkpoint, in words; the texts are the same where the bits are."""

    part: str
    stored: str
    here: str


class Capture(Protocol):
    """A copy of weights and optimiser that training does not touch any more; may be written in another thread."""

    @property
    def bytes(self) -> int:
        """Size on disk, but for a few kilobytes."""

    def write(self, folder: Path) -> dict[str, str]:
        """Write files into an empty folder, synced; answers name → sha256. Raises OSError."""


class Backend(Protocol):
    """A policy with its optimiser. Methods raise OutOfMemory where memory ran out."""

    @property
    def vocab_size(self) -> int:
        """Token ids are below it."""

    @property
    def state(self) -> TrainingState:
        """Counters of what has been trained."""

    def train(self, groups: Sequence[Group], step: int, spec: JobSpec) -> StepFigures:
        """Train one step with the settings of `spec`. Raises TrainingDiverged."""

    def token_weights(self) -> Mapping[int, TokenWeights]:
        """Of the first group of the step trained last, by place in the group; waits for the device."""

    def keep(self) -> None:
        """Remember the present weights for `recompute`, in place of any weights remembered before."""

    def forget(self) -> None:
        """Give up what `keep` remembers."""

    def recompute(self, group: Group) -> RatioFigures:
        """Ratios of a group's tokens under the remembered weights, which are still remembered afterwards."""

    def capture(self) -> Capture:
        """A copy for a checkpoint."""

    def load(self, folder: Path, hashes: Mapping[str, str], state: TrainingState) -> None:
        """Continue from the files that `Capture.write` wrote to `folder`; `hashes` is its answer.

        Raises CheckpointDamaged before anything is changed, and ValueError for a checkpoint of another model.
        """

    def compare(self, folder: Path, hashes: Mapping[str, str]) -> list[Comparison]:
        """The state and a checkpoint: one entry for a part that is the same to the bit, else one for each of its
        differences. Raises CheckpointDamaged."""

    def weights_sha256(self, *, most_bytes: int | None = None) -> str | None:
        """Hash of all weights; None when they are larger than `most_bytes`."""

    def environment(self) -> dict[str, str | int]:
        """Causes of a step's bits besides its inputs: versions, threads, device."""

    def publish(self, root: Path, *, version: int, step: int) -> Path:
        """Write the weights as a version folder for engines, with a canary, and answer where it is."""

    def export(self, folder: Path) -> None:
        """Write a plain Hugging Face folder, whole or not at all, in place of an older one."""

    def gate_curve(self, spec: JobSpec) -> GateCurve:
        """Weight of a token's gradient over its log ratio, under the job's objective."""
