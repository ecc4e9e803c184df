"""The meters of a worker: metrics of the table whose source is "worker", made when first used.

One process is one worker of one job, so meters are the process's own, as prometheus_client's are. They live in a
registry of their own, because engines use the default one; `exporter` serves both.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from services.observability.metrics import METRICS, Metric

BULK = frozenset({"sspo_is_ratio", "sspo_seq_is_ratio", "sspo_staleness_steps"})
"""Histograms that come as counts per bucket and not value by value."""
BY_NAME = {metric.name: metric for metric in METRICS if metric.source == "worker"}


class Binned(Collector):
    """A histogram that takes whole bins: one call a step instead of one a token."""

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._metric = metric
        self._edges = [f"{edge:g}" for edge in metric.buckets] + ["+Inf"]
        self._lock = threading.Lock()
        self._bins: dict[tuple[str, ...], tuple[list[float], float]] = {}
        registry.register(self)

    def add(self, labels: Sequence[str], counts: Sequence[float], total: float) -> None:
        """Counts by bucket, not cumulative, one more than there are edges; `total` is the sum of the values."""
        if len(counts) != len(self._edges):
            raise ValueError(f"counts: {len(counts)} of {len(self._edges)} buckets")
        with self._lock:
            before, sum_before = self._bins.get(tuple(labels), ([0.0] * len(counts), 0.0))
            added = [old + new for old, new in zip(before, counts, strict=True)]
            self._bins[tuple(labels)] = added, sum_before + total

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """The family without samples, so that registering reads nothing."""
        return [HistogramMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The family now."""
        [family] = self.describe()
        with self._lock:
            bins = dict(self._bins)
        for labels, (counts, total) in bins.items():
            running, cumulative = 0.0, []
            for edge, count in zip(self._edges, counts, strict=True):
                running += count
                cumulative.append((edge, running))
            family.add_metric(labels, cumulative, total)
        yield family


Meter = Binned | Counter | Histogram


class Meters:
    """The meters of one worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._made: dict[str, Meter] = {}
        self._lock = threading.Lock()

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter of the table. Raises KeyError for a name that is none, TypeError for no counter."""
        meter = self._meter(name)
        if not isinstance(meter, Counter):
            raise TypeError(f"{name} is no counter")
        (meter.labels(**labels) if labels else meter).inc(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value to a histogram of the table. Raises KeyError for a name that is none, TypeError for no such."""
        meter = self._meter(name)
        if not isinstance(meter, Histogram):
            raise TypeError(f"{name} is no histogram of single values")
        (meter.labels(**labels) if labels else meter).observe(value)

    def add_bins(self, name: str, counts: Sequence[float], total: float, **labels: str) -> None:
        """Add whole bins to a histogram of `BULK`; see `Binned.add`."""
        meter = self._meter(name)
        if not isinstance(meter, Binned):
            raise TypeError(f"{name} does not take bins")
        meter.add([labels[label] for label in BY_NAME[name].labels], counts, total)

    def _meter(self, name: str) -> Meter:
        with self._lock:
            if name not in self._made:
                self._made[name] = _make(BY_NAME[name], self.registry)
            return self._made[name]


def _make(metric: Metric, registry: CollectorRegistry) -> Meter:
    if metric.name in BULK:
        return Binned(metric, registry)
    if metric.kind == "counter":
        return Counter(metric.name, metric.help, metric.labels, registry=registry)
    return Histogram(metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry)


METERS = Meters()
"""This process's."""
