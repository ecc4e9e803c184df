"""Single trajectories to look at: their tokens with ratio, gradient weight and version; and the gate they went through.

For readers only; `services.store.job.looks` keeps them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog
import torch
from torch import Tensor

from services.job.spec import JobSpec, objective_config
from services.learner.model.tensors import MicroBatch
from services.records.samples import GateCurve, SampledGroup, SampledTrajectory
from services.store.job.looks import SampleFile
from services.trajectories.codec import read_ints
from sspo_core import Denominators, LossInputs, policy_loss
from sspo_core.types import TokenReadings
from sspo_proto.trajectory_pb2 import Group, Trajectory

log = structlog.get_logger()

EVERY_SECONDS = 5.0
MOST_TOKENS = 4096
"""Of one trajectory that are kept, the first ones."""
MAX_LOG_RATIO, CURVE_POINTS = 3.0, 121
DIGITS = 5


class TokenLog:
    """What a step did to the tokens of one group; nothing waits for the device before `rows`."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}

    def add(self, batch: MicroBatch, tokens: TokenReadings) -> None:
        """Take the watched rows of a micro-batch."""
        for row, trajectory in batch.watched:
            length = batch.completion_lengths[row]
            self._rows[trajectory] = (tokens.log_ratio[row, :length], tokens.weight[row, :length])

    def rows(self) -> dict[int, tuple[list[float], list[float]]]:
        """Trajectory of the group -> log ratio and weight of each of its tokens; waits for the device."""
        return {
            index: (_plain(ratios[:MOST_TOKENS]), _plain(weights[:MOST_TOKENS]))
            for index, (ratios, weights) in self._rows.items()
        }


class Samples:
    """The groups that a job keeps to be looked at."""

    def __init__(self, path: Path, model: Path) -> None:
        self._file = SampleFile(path)
        self._model = model
        self._decode: Callable[..., str] | None = None
        self._next = 0.0

    def add(self, step: int, group: Group, log: TokenLog, advantages: Sequence[float]) -> None:
        """Keep the group of a step, unless one was kept a moment ago."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_SECONDS
        rows = log.rows()
        sample = SampledGroup(
            step=step,
            group_number=group.task.group_number,
            prompt=self._text(read_ints(group.task.prompt_token_ids).tolist()),
            trajectories=tuple(
                self._trajectory(trajectory, advantages[index], *rows[index])
                for index, trajectory in enumerate(group.trajectories)
                if index in rows
            ),
        )
        self._file.add(sample)

    def _trajectory(
        self, trajectory: Trajectory, advantage: float, log_ratios: list[float], weights: list[float]
    ) -> SampledTrajectory:
        tokens = read_ints(trajectory.completion_token_ids)[:MOST_TOKENS].tolist()
        return SampledTrajectory(
            reward=trajectory.reward.value,
            advantage=round(advantage, DIGITS),
            tokens=tuple(self._text([token]) for token in tokens),
            log_ratios=tuple(log_ratios),
            weights=tuple(weights),
            versions=tuple(_versions(trajectory))[:MOST_TOKENS],
        )

    def _text(self, token_ids: list[int]) -> str:
        if self._decode is None:
            self._decode = _decoder(self._model)
        return str(self._decode(token_ids, clean_up_tokenization_spaces=False))


@torch.no_grad()
def gate_curve(spec: JobSpec) -> GateCurve:
    """By how much a token's gradient differs from REINFORCE, over z = log ratio, for either sign of the advantage.

    Of sequences of one token each: where a sequence's tokens share a ratio or a mean, z is that of the sequence.
    """
    z = torch.linspace(-MAX_LOG_RATIO, MAX_LOG_RATIO, CURVE_POINTS, dtype=torch.float64)[:, None]
    config = objective_config(spec.objective)
    weights: dict[str, tuple[float, ...]] = {}
    for name, sign in (("positive", 1.0), ("negative", -1.0)):
        ones = torch.ones_like(z)
        inputs = LossInputs(
            policy_logprobs=z,
            behaviour_logprobs=torch.zeros_like(z),
            advantages=sign * ones[:, 0],
            mask=ones,
            reference_logprobs=z,
            denominators=Denominators(tokens=1.0, sequences=1.0),
        )
        tokens = policy_loss(inputs, config).tokens
        weights[name] = tuple(_plain(tokens.weight[:, 0])) if tokens is not None else ()
    return GateCurve(
        objective=spec.objective["name"],
        log_ratio=tuple(_plain(z[:, 0])),
        positive=weights["positive"],
        negative=weights["negative"],
        quantity="weight of a token's gradient against REINFORCE",
    )


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


def _plain(values: Tensor) -> list[float]:
    return [round(float(value), DIGITS) for value in values.double().nan_to_num(0.0, 1e9, -1e9).tolist()]
