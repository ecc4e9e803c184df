"""Records the effect of a step on the tokens of one group. Nothing waits for the device before `read`."""

from __future__ import annotations

from torch import Tensor

from services.learner.backend import TokenWeights
from services.learner.model.tensors import MicroBatch, TrainingSequence
from sspo_core.types import TokenReadings

MOST_TOKENS = 4096
"""Of one trajectory that are kept, the first ones."""
DIGITS = 5


class TokenLog:
    """The tokens of the first group of a step."""

    def __init__(self, group: list[TrainingSequence] | None = None) -> None:
        """Empty, or for a step whose first group this is."""
        self._advantages = [row.advantage for row in group or []]
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}

    def add(self, batch: MicroBatch, tokens: TokenReadings) -> None:
        """Take what a micro-batch has of the group; of several updates the last one stays."""
        for row, member in batch.of_first_group():
            length = batch.completion_lengths[row]
            self._rows[member] = (tokens.log_ratio[row, :length], tokens.weight[row, :length])

    def read(self) -> dict[int, TokenWeights]:
        """Place in the group → its tokens; waits for the device."""
        return {
            member: TokenWeights(
                advantage=round(self._advantages[member], DIGITS),
                log_ratios=plain(ratios[:MOST_TOKENS]),
                weights=plain(weights[:MOST_TOKENS]),
            )
            for member, (ratios, weights) in self._rows.items()
        }


def plain(values: Tensor) -> list[float]:
    """Short numbers that JSON can carry."""
    return [round(float(value), DIGITS) for value in values.double().nan_to_num(0.0, 1e9, -1e9).tolist()]
