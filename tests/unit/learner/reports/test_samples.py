"""Trajectories that are kept to be looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from services.disk.files import whole_lines
from services.disk.layout import Layout
from services.learner.model import token_log
from services.learner.model.gate_curve import gate_curve
from services.learner.model.tensors import micro_batches, sequences
from services.learner.model.token_log import TokenLog
from services.learner.reports import samples as samples_module
from services.learner.reports.samples import Samples
from services.store.job import samples as looks
from services.trajectories.codec import decode_group
from sspo_core.types import TokenReadings
from sspo_proto.trajectory_pb2 import Group
from tests.support.tiny import job_spec, scored_group, write_model

ADVANTAGES = [0.5, -0.5, 1.0, -1.0]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("data"))
    write_model(layout.models / "tiny")
    return layout


@pytest.fixture
def group(layout: Layout) -> Group:
    return decode_group(scored_group(layout, job_spec(), 0))


def logged(group: Group) -> TokenLog:
    """Each token's log ratio is its place, its weight the place of its trajectory."""
    rows = sequences(group, ADVANTAGES, 0)
    log = TokenLog(rows)
    others = sequences(group, ADVANTAGES, 0, place=1)
    for batch in micro_batches([*rows, *others], 16):
        places = torch.arange(batch.mask.shape[1], dtype=torch.float32).expand(batch.mask.shape)
        weights = torch.tensor([[float(member)] for member in batch.members]).expand(batch.mask.shape)
        weights = weights + 100.0 * torch.tensor(batch.groups)[:, None]  # another group's must not be taken
        log.add(batch, TokenReadings(log_ratio=places, weight=weights))
    return log


def kept(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in whole_lines(path)]


def test_every_token_has_its_own_figures(layout: Layout, group: Group, tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    Samples(path, layout.model("tiny")).add(3, group, logged(group).read)
    [sample] = kept(path)
    rows = sample["trajectories"]
    assert isinstance(rows, list) and (sample["step"], len(rows)) == (3, 4)
    for place, row in enumerate(rows):
        assert row["log_ratios"] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
        assert row["weights"] == [float(place)] * 6
        assert row["advantage"] == ADVANTAGES[place]
        assert len(row["tokens"]) == len(row["versions"]) == 6


def test_the_newest_stay_and_long_ones_are_cut(
    layout: Layout, group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples_module, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(looks, "KEPT", 3)
    monkeypatch.setattr(token_log, "MOST_TOKENS", 2)
    path = tmp_path / "samples.jsonl"
    samples, log = Samples(path, layout.model("tiny")), logged(group)
    for step in range(20):
        samples.add(step, group, log.read)
        assert len(kept(path)) < 6
    found = kept(path)
    assert [sample["step"] for sample in found][-3:] == [17, 18, 19]
    names = ("tokens", "log_ratios", "weights", "versions")
    assert {len(row[name]) for sample in found for row in sample["trajectories"] for name in names} == {2}  # type: ignore[attr-defined]


def test_one_in_a_while_is_enough(layout: Layout, group: Group, tmp_path: Path) -> None:
    samples, log = Samples(tmp_path / "samples.jsonl", layout.model("tiny")), logged(group)
    for step in range(5):
        samples.add(step, group, log.read)
    assert len(kept(tmp_path / "samples.jsonl")) == 1


def test_a_clip_is_seen_in_the_curve_of_a_clipped_objective() -> None:
    spec = job_spec().model_copy(update={"objective": {"name": "reinforce"}})
    assert set(gate_curve(spec).positive) == {1.0}
    clipped = gate_curve(job_spec().model_copy(update={"objective": {"name": "grpo"}}))
    far = clipped.log_ratio.index(max(clipped.log_ratio))
    assert clipped.positive[far] == 0.0 < clipped.negative[far]
