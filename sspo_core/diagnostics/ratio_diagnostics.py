"""Diagnostics of importance ratios: additive state on the device, read once.

`RatioDiagnostics` adds micro-batches and merges across micro-batches, ranks and staleness buckets; only `figures()` and
`histograms()` wait for the device. The table of figures is in `figures.py`. Sums are float64, so that the small
divergence of two engines (z about 1e-6) survives them, and a merge is exact to their last digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sspo_core.diagnostics.counts import ratio_counts
from sspo_core.diagnostics.figures import HISTOGRAMS, LARGEST, SMALLEST, SUMS, figures_of, unsigned
from sspo_core.diagnostics.figures import LOG_RATIO_BUCKETS as LOG_RATIO_BUCKETS
from sspo_core.diagnostics.figures import RATIO_BUCKETS as RATIO_BUCKETS


@dataclass(frozen=True)
class State(Mapping[str, Tensor]):
    """All that is additive, in four tensors; as a mapping, a name → its scalar or histogram."""

    sums: Tensor
    smallest: Tensor
    largest: Tensor
    histograms: Tensor

    @classmethod
    def of(cls, named: Mapping[str, Tensor]) -> State:
        """From some names; what isn't named counts nothing. All on one device."""
        device = next(iter(named.values())).device

        def scalars(names: tuple[str, ...], nothing: float) -> Tensor:
            default = torch.full((), nothing, dtype=torch.float64, device=device)
            return torch.stack([named[name].detach().double() if name in named else default for name in names])

        histograms = [
            named[name] if name in named else torch.zeros(size, dtype=torch.float64, device=device)
            for name, size in HISTOGRAMS.items()
        ]
        return cls(scalars(SUMS, 0.0), scalars(SMALLEST, math.inf), scalars(LARGEST, -math.inf), torch.cat(histograms))

    def merged(self, other: State) -> State:
        """A new state with what both have counted."""
        return State(
            self.sums + other.sums,
            torch.minimum(self.smallest, other.smallest),
            torch.maximum(self.largest, other.largest),
            self.histograms + other.histograms,
        )

    def read(self) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Scalars and histograms as plain numbers: the one place that waits for the device."""
        values: list[float] = torch.cat([self.sums, self.smallest, self.largest, self.histograms]).tolist()
        names = (*SUMS, *SMALLEST, *LARGEST)
        counts = values[len(names) :]
        return (
            dict(zip(names, values[: len(names)], strict=True)),
            {name: counts[_START[name] : _START[name] + size] for name, size in HISTOGRAMS.items()},
        )

    def __getitem__(self, name: str) -> Tensor:
        if name in HISTOGRAMS:
            return self.histograms[_START[name] : _START[name] + HISTOGRAMS[name]]
        for tensor, names in ((self.sums, SUMS), (self.smallest, SMALLEST), (self.largest, LARGEST)):
            if name in names:
                return tensor[names.index(name)]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter((*SUMS, *SMALLEST, *LARGEST, *HISTOGRAMS))

    def __len__(self) -> int:
        return len(SUMS) + len(SMALLEST) + len(LARGEST) + len(HISTOGRAMS)


_START = {name: sum(list(HISTOGRAMS.values())[:place]) for place, name in enumerate(HISTOGRAMS)}


class RatioDiagnostics:
    """Accumulates diagnostics; `state` is what is additive, detached."""

    def __init__(self, state: Mapping[str, Tensor] | None = None) -> None:
        """Empty, or over the state of another one, such as `LossOutputs.metrics`."""
        self.state: State | None = state if isinstance(state, State) else State.of(state) if state else None

    def add(self, log_ratio_BT: Tensor, mask_BT: Tensor) -> None:
        """Counts log ratios z = policy − behaviour, [B, T], not clamped; anything may lie outside the mask."""
        self._merge(ratio_counts(log_ratio_BT, mask_BT))

    def count(self, **sums: Tensor) -> None:
        """Adds scalars that were summed elsewhere, under names of `figures.SUMS`."""
        self._merge(sums)

    def merge(self, other: RatioDiagnostics) -> None:
        """Adds what `other` has counted."""
        if other.state is not None:
            self.state = other.state if self.state is None else self.state.merged(other.state)

    def figures(self) -> dict[str, float]:
        """The figures of `figures.py`'s table; waits for the device."""
        if self.state is None:
            return {}
        scalars, histograms = self.state.read()
        return figures_of(scalars, histograms)

    def histograms(self) -> dict[str, list[float]]:
        """Counts per bucket, not cumulative, the last one above the last edge: `RATIO_BUCKETS` for the two ratios,
        `LOG_RATIO_BUCKETS` for `log_ratio_abs_histogram`. Waits for the device."""
        if self.state is None:
            return {}
        _, every = self.state.read()
        kept = {name: every[name] for name in ("ratio_histogram", "sequence_ratio_histogram")}
        return kept | {"log_ratio_abs_histogram": unsigned(every["log_ratio_histogram"])}

    def _merge(self, named: Mapping[str, Tensor]) -> None:
        self.merge(RatioDiagnostics(State.of(named)))
