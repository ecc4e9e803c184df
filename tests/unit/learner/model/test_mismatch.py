"""Engine mismatch where no step has tokens of its own weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from services.disk.layout import Layout
from services.learner.model.mismatch import MismatchProbe
from services.learner.model.policy import Policy
from services.trajectories.codec import decode_group
from sspo_proto.trajectory_pb2 import Group
from tests.support.tiny import job_spec, scored_group, write_model

SPEC = job_spec(mismatch_probe_every=10, max_staleness=2)
UNKNOWN: dict[str, Any] = {"kl_k3": 0.25, "mismatch": None}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("data"))
    write_model(layout.models / "tiny")
    return layout


@pytest.fixture
def policy(layout: Layout) -> Policy:
    return Policy(layout.model("tiny"), torch.device("cpu"))


def group(layout: Layout, version: int) -> Group:
    return decode_group(scored_group(layout, SPEC, 0, version=version))


def train(policy: Policy) -> None:
    with torch.no_grad():
        for tensor in policy.parameters():
            tensor.add_(0.3)


def test_a_group_of_the_weights_that_were_kept_is_recomputed_with_them(layout: Layout, policy: Policy) -> None:
    probe = MismatchProbe(SPEC, policy)
    probe.published(version=4, step=0)
    train(policy)
    before = {name: tensor.clone() for name, tensor in policy.tensors().items()}
    assert probe.complete(UNKNOWN, [group(layout, 3)], step=1)["mismatch"] is None, "of other weights: still unknown"
    drift = probe.complete(UNKNOWN, [group(layout, 3), group(layout, 4)], step=1)
    assert drift["mismatch"]["kl_k3"] == pytest.approx(0.0, abs=1e-9)
    assert (drift["mismatch"]["source"], drift["mismatch"]["step"]) == ("probe", 1)
    assert drift["drift_share"] == pytest.approx(1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in policy.tensors().items())


def test_under_other_weights_the_mismatch_would_not_be_small(layout: Layout, policy: Policy) -> None:
    train(policy)
    probe = MismatchProbe(SPEC, policy)
    probe.published(version=4, step=0)
    drift = probe.complete(UNKNOWN, [group(layout, 4)], step=1)
    assert drift["mismatch"]["kl_k3"] > 0.01


def test_it_is_measured_again_when_due_and_given_up_when_no_group_comes(layout: Layout, policy: Policy) -> None:
    probe = MismatchProbe(SPEC, policy)
    probe.published(4, 0)
    probe.complete(UNKNOWN, [group(layout, 4)], step=1)
    for step in range(2, 10):
        probe.published(4 + step, step)
        assert probe.complete(UNKNOWN, [group(layout, 4 + step)], step)["mismatch"]["step"] == 1
    for step in range(11, 17):
        probe.published(4 + step, step)
    assert probe.complete(UNKNOWN, [group(layout, 15)], 16)["mismatch"]["step"] == 1, "the copy of step 11 was given up"
    assert probe.complete(UNKNOWN, [group(layout, 20)], 16)["mismatch"]["step"] == 16


def test_after_a_rollback_it_begins_anew(layout: Layout, policy: Policy) -> None:
    probe = MismatchProbe(SPEC, policy)
    probe.published(4, 900)
    probe.complete(UNKNOWN, [group(layout, 4)], step=901)
    probe.published(5, 911)
    probe.went_back()
    probe.published(6, 500)
    assert probe.complete(UNKNOWN, [group(layout, 5)], step=500)["mismatch"] is None, "of weights that were undone"
    assert probe.complete(UNKNOWN, [group(layout, 6)], step=501)["mismatch"]["step"] == 501


def test_a_steps_own_tokens_are_the_better_measurement(layout: Layout, policy: Policy) -> None:
    probe = MismatchProbe(SPEC, policy)
    probe.published(4, 0)
    own = {"kl_k3": 0.2, "mismatch": {"kl_k3": 0.05, "source": "bucket"}}
    assert probe.complete(own, [group(layout, 4)], 0)["mismatch"] == {"kl_k3": 0.05, "source": "bucket", "step": 0}
    assert probe.complete(UNKNOWN, [group(layout, 4)], 1)["drift_share"] == pytest.approx(0.8)


def test_zero_means_never(layout: Layout, policy: Policy, tmp_path: Path) -> None:
    probe = MismatchProbe(job_spec(mismatch_probe_every=0), policy)
    probe.published(4, 0)
    assert probe.complete(UNKNOWN, [group(layout, 4)], 1)["mismatch"] is None
