"""The one list of metrics."""

from __future__ import annotations

import re

import pytest

from services.observability.metrics import METRICS, Metric
from services.records.figure import path_of

UNBOUNDED = {"group", "prompt", "trajectory", "number", "path", "request_id"}


def test_names_are_unique() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_follows_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"(sspo|http)_[a-z0-9_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help and not metric.help.endswith(".")
    assert not set(metric.labels) & UNBOUNDED
    assert (metric.source == "step") == (metric.figure is not None)
    assert (metric.labels[:1] == ("job_id",)) == (metric.source in ("job", "step"))


def test_drift_figures_exist() -> None:
    import torch

    from services.learner.model.drift_table import DriftTable
    from sspo_core import OBJECTIVES, LossInputs, policy_loss

    z, ones = torch.tensor([[0.1, -0.2], [0.0, 0.3]]), torch.ones(2, 2)
    inputs = LossInputs(z, 0 * z, torch.tensor([1.0, -1.0]), ones, entropy=ones, buckets=[0, 1])
    table = DriftTable()
    table.add(policy_loss(inputs, OBJECTIVES["sspo"]()), update=0)
    figures = table.figures().plain()
    paths = [path_of(metric.figure) for metric in METRICS if metric.figure is not None]
    for path in paths:
        if path.startswith("drift."):
            found = figures
            for name in path.split(".")[1:]:
                assert name in found, path
                found = found.get(name, {})
