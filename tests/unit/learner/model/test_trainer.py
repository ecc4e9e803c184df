"""One training step: what a batch becomes, whatever its micro-batches, and what it says of itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.learner.model.policy import Policy
from services.learner.model.trainer import Trainer
from services.records.drift import DriftFigures
from services.records.step import StepFigures
from services.trajectories.codec import decode_group
from sspo_proto.trajectory_pb2 import Group
from tests.support.tiny import job_spec, scored_group, write_model


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    found = Layout(tmp_path_factory.mktemp("step"))
    write_model(found.models / "tiny")
    return found


@pytest.fixture(scope="module")
def groups(layout: Layout) -> list[Group]:
    """Three groups, sampled at step 0, from the model that every test starts with."""
    return [decode_group(scored_group(layout, job_spec(), number)) for number in range(3)]


def trainer(layout: Layout, *, objective: dict[str, Any] | None = None, **learner: Any) -> Trainer:
    spec: JobSpec = job_spec(**learner)
    spec = spec.model_copy(update={"objective": objective or {"name": "sspo"}})
    return Trainer(spec, Policy(layout.model("tiny"), torch.device("cpu")))


def drift_of(figures: StepFigures) -> DriftFigures:
    assert figures.drift is not None
    return figures.drift


def test_micro_batches_do_not_change_the_step(layout: Layout, groups: list[Group]) -> None:
    whole, split = (trainer(layout, tokens_per_microbatch=tokens) for tokens in (10_000, 9))
    figures = [each.train(groups, 0) for each in (whole, split)]
    for name in ("loss", "grad_norm", "tokens"):
        assert getattr(figures[0], name) == pytest.approx(getattr(figures[1], name), rel=1e-4, abs=1e-6)
    for name in ("kl_k3", "ratio_mean", "entropy_mean", "gate_weight_mean_positive"):
        one, other = (drift_of(each).model_dump()[name] for each in figures)
        assert one == pytest.approx(other, rel=1e-3, abs=1e-6), name


def test_buckets_tell_staleness_and_update_apart(layout: Layout, groups: list[Group]) -> None:
    drift = drift_of(trainer(layout, updates_per_step=2).train(groups, 3))
    assert list(drift.buckets) == ["3/0", "3/1"]
    assert sum(bucket.tokens or 0 for bucket in drift.buckets.values()) == drift.tokens == 3 * 4 * 6
    first, second = drift.buckets["3/0"].kl_k3, drift.buckets["3/1"].kl_k3
    assert first is not None and second is not None and first < 1e-9 < second, "the first update moved it"
    for figure in ("entropy_mean", "effective_update_ratio", "gate_weight_mean_negative", "ess_sequence"):
        assert figure in drift.buckets["3/1"].model_fields_set, figure


def test_proximal_log_probs_are_those_of_the_steps_start(layout: Layout, groups: list[Group]) -> None:
    drifted = [Group.FromString(group.SerializeToString()) for group in groups]
    for group in drifted:
        for trajectory in group.trajectories:  # as if an older policy had found every token half as likely
            logprobs = torch.frombuffer(bytearray(trajectory.behaviour_logprobs), dtype=torch.float32)
            trajectory.behaviour_logprobs = (logprobs - 0.6931472).numpy().tobytes()
    corrections = {"importance": "truncated", "high": 1.5}
    drift = drift_of(trainer(layout, proximal_logprobs=True, corrections=corrections).train(drifted, 0))
    assert drift.ratio_mean == pytest.approx(2.0, rel=1e-3), "drift is against the sampler"
    assert drift.effective_update_ratio == pytest.approx(1.0, rel=1e-3), "the objective's ratio is not"
    assert drift.correction_mean == pytest.approx(1.5) and drift.correction_altered_ratio == 1.0
    plain = drift_of(trainer(layout).train(drifted, 0))
    assert (plain.effective_update_ratio or 1.0) < 0.9 and plain.correction_mean is None


def test_a_penalty_holds_the_policy_to_the_model_it_began_with(layout: Layout, groups: list[Group]) -> None:
    distance = {}
    for beta in (1e-9, 5.0):
        each = trainer(layout, objective={"name": "sspo", "kl_coefficient": beta})
        seen = [drift_of(each.train(groups, step)).kl_reference_k3 for step in range(4)]
        assert seen[0] == pytest.approx(0.0, abs=1e-9)
        distance[beta] = seen[-1]
    assert 0 < distance[5.0] < distance[1e-9] / 2


def test_whitening_looks_at_the_whole_batch(layout: Layout, groups: list[Group]) -> None:
    unlike = [Group.FromString(group.SerializeToString()) for group in groups[:2]]
    for group, reward in zip(unlike, (0.0, 1.0), strict=True):
        for trajectory in group.trajectories:
            trajectory.reward.value = reward
    by_group = trainer(layout).train(unlike, 0)
    whitened = trainer(layout, advantage="batch_whitened").train(unlike, 0)
    assert by_group.grad_norm == 0.0, "within a group all are equal"
    assert (whitened.grad_norm or 0.0) > 0.0
