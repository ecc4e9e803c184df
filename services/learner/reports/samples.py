"""Single trajectories to look at: their tokens with ratio, gradient weight and version; and the gate they went through.

For readers only; `services.store.job.samples` keeps them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import structlog

from services.learner.backend import TokenWeights
from services.records.samples import SampledGroup, SampledTrajectory
from services.store.job.samples import SampleFile
from services.trajectories.codec import read_ints
from sspo_proto.trajectory_pb2 import Group, Trajectory

log = structlog.get_logger()

EVERY_SECONDS = 5.0


class Samples:
    """The groups that a job keeps to be looked at."""

    def __init__(self, path: Path, model: Path) -> None:
        self._file = SampleFile(path)
        self._model = model
        self._decode: Callable[..., str] | None = None
        self._next = 0.0

    def add(self, step: int, group: Group, read: Callable[[], Mapping[int, TokenWeights]]) -> None:
        """Keep the group of a step, unless one was kept a moment ago; `read` gives what the step did to its tokens."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_SECONDS
        found = read()
        sample = SampledGroup(
            step=step,
            group_number=group.task.group_number,
            prompt=self._text(read_ints(group.task.prompt_token_ids).tolist()),
            trajectories=tuple(
                self._trajectory(trajectory, found[place])
                for place, trajectory in enumerate(group.trajectories)
                if place in found
            ),
        )
        self._file.add(sample)

    def _trajectory(self, trajectory: Trajectory, tokens: TokenWeights) -> SampledTrajectory:
        shown = read_ints(trajectory.completion_token_ids)[: len(tokens.weights)].tolist()
        return SampledTrajectory(
            reward=trajectory.reward.value,
            advantage=tokens.advantage,
            tokens=tuple(self._text([token]) for token in shown),
            log_ratios=tuple(tokens.log_ratios),
            weights=tuple(tokens.weights),
            versions=tuple(_versions(trajectory))[: len(tokens.weights)],
        )

    def _text(self, token_ids: list[int]) -> str:
        if self._decode is None:
            self._decode = _decoder(self._model)
        return str(self._decode(token_ids, clean_up_tokenization_spaces=False))


def _decoder(model: Path) -> Callable[..., str]:
    """The tokenizer's `decode`; ids as they are for a model that has no tokenizer."""
    from transformers import AutoTokenizer

    try:
        decode: Callable[..., str] = AutoTokenizer.from_pretrained(model, local_files_only=True).decode
    except (OSError, ValueError) as error:
        log.warning("no_tokenizer", model=model.name, reason=str(error))
        return lambda token_ids, **_: "".join(f"<{token}>" for token in token_ids)
    return decode


def _versions(trajectory: Trajectory) -> Iterator[int]:
    for span in trajectory.version_spans:
        yield from [span.version] * (span.end - span.start)
