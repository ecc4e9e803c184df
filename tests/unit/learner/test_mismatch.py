"""Engine mismatch where no step has tokens of its own weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from services.disk.layout import Layout
from services.learner.mismatch import MismatchProbe
from services.learner.model.local import LocalBackend
from services.records.drift import DriftFigures, Mismatch
from services.trajectories.codec import decode_group
from sspo_proto.trajectory_pb2 import Group
from tests.support.tiny import job_spec, scored_group, write_model

SPEC = job_spec(mismatch_probe_every=10, max_staleness=2)
UNKNOWN = DriftFigures(kl_k3=0.25)


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("data"))
    write_model(layout.models / "tiny")
    return layout


class Trained(LocalBackend):
    """A backend whose weights a test may move."""

    def move(self) -> None:
        with torch.no_grad():
            for tensor in self._policy.parameters():
                tensor.add_(0.3)


@pytest.fixture
def policy(layout: Layout) -> Trained:
    return Trained(SPEC, layout.model("tiny"))


def group(layout: Layout, version: int) -> Group:
    return decode_group(scored_group(layout, SPEC, 0, version=version))


def known(drift: DriftFigures) -> Mismatch:
    assert drift.mismatch is not None
    return drift.mismatch


def test_a_group_of_the_weights_that_were_kept_is_recomputed_with_them(layout: Layout, policy: Trained) -> None:
    probe = MismatchProbe(SPEC.learner, policy)
    probe.published(version=4, step=0)
    policy.move()
    before = policy.weights_sha256()
    assert probe.complete(UNKNOWN, [group(layout, 3)], step=1).mismatch is None, "of other weights: still unknown"
    drift = probe.complete(UNKNOWN, [group(layout, 3), group(layout, 4)], step=1)
    assert known(drift).kl_k3 == pytest.approx(0.0, abs=1e-9)
    assert (known(drift).source, known(drift).step) == ("probe", 1)
    assert drift.drift_share == pytest.approx(1.0)
    assert policy.weights_sha256() == before


def test_under_other_weights_the_mismatch_would_not_be_small(layout: Layout, policy: Trained) -> None:
    policy.move()
    probe = MismatchProbe(SPEC.learner, policy)
    probe.published(version=4, step=0)
    drift = probe.complete(UNKNOWN, [group(layout, 4)], step=1)
    assert (known(drift).kl_k3 or 0.0) > 0.01


def test_it_is_measured_again_when_due_and_given_up_when_no_group_comes(layout: Layout, policy: Trained) -> None:
    probe = MismatchProbe(SPEC.learner, policy)
    probe.published(4, 0)
    probe.complete(UNKNOWN, [group(layout, 4)], step=1)
    for step in range(2, 10):
        probe.published(4 + step, step)
        assert known(probe.complete(UNKNOWN, [group(layout, 4 + step)], step)).step == 1
    for step in range(11, 17):
        probe.published(4 + step, step)
    assert known(probe.complete(UNKNOWN, [group(layout, 15)], 16)).step == 1, "the copy of step 11 was given up"
    assert known(probe.complete(UNKNOWN, [group(layout, 20)], 16)).step == 16


def test_after_a_rollback_it_begins_anew(layout: Layout, policy: Trained) -> None:
    probe = MismatchProbe(SPEC.learner, policy)
    probe.published(4, 900)
    probe.complete(UNKNOWN, [group(layout, 4)], step=901)
    probe.published(5, 911)
    probe.went_back()
    probe.published(6, 500)
    assert probe.complete(UNKNOWN, [group(layout, 5)], step=500).mismatch is None, "of weights that were undone"
    assert known(probe.complete(UNKNOWN, [group(layout, 6)], step=501)).step == 501


def test_a_steps_own_tokens_are_the_better_measurement(layout: Layout, policy: Trained) -> None:
    probe = MismatchProbe(SPEC.learner, policy)
    probe.published(4, 0)
    own = DriftFigures(kl_k3=0.2, mismatch=Mismatch(kl_k3=0.05, source="bucket"))
    assert probe.complete(own, [group(layout, 4)], 0).mismatch == Mismatch(kl_k3=0.05, source="bucket", step=0)
    assert probe.complete(UNKNOWN, [group(layout, 4)], 1).drift_share == pytest.approx(0.8)


def test_zero_means_never(layout: Layout, policy: Trained, tmp_path: Path) -> None:
    probe = MismatchProbe(job_spec(mismatch_probe_every=0).learner, policy)
    probe.published(4, 0)
    assert probe.complete(UNKNOWN, [group(layout, 4)], 1).mismatch is None
