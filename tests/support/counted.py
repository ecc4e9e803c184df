"""What this process's meters count while a test runs: they are the process's own, and other tests' too."""

from __future__ import annotations

from collections import Counter

from services.observability.meters import METERS

Sample = tuple[str, frozenset[tuple[str, str]]]


class Counted:
    """Counts since it was made."""

    def __init__(self) -> None:
        self._before = _samples()

    def __call__(self, name: str, **labels: str) -> float:
        """The growth of a sample (`..._total`, `..._count`, `..._sum`), over all labels that are not named."""
        wanted = set(labels.items())
        return sum(
            value - self._before[sample, its]
            for (sample, its), value in _samples().items()
            if sample == name and wanted <= its
        )


def _samples() -> Counter[Sample]:
    found: Counter[Sample] = Counter()
    for family in METERS.registry.collect():
        for sample in family.samples:
            found[sample.name, frozenset(sample.labels.items())] = sample.value  # type: ignore[assignment]
    return found
