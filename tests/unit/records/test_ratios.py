"""The typed figures against the core that computes them."""

from __future__ import annotations

import torch

from services.records.drift import DriftFigures, Mismatch
from services.records.ratios import RatioFigures
from services.records.record import numbers
from services.records.step import StepRecord
from sspo_core import CorrectionConfig, LossInputs, RatioDiagnostics, policy_loss
from sspo_core.config import GRPOConfig


def every_figure() -> dict[str, float]:
    """The figures of a batch on which each of them has something to be a mean of."""
    generator = torch.Generator().manual_seed(3)
    behaviour = -torch.rand((4, 6), generator=generator, dtype=torch.float64)
    policy = behaviour + 0.1 * torch.randn((4, 6), generator=generator, dtype=torch.float64)
    inputs = LossInputs(
        policy_logprobs=policy,
        behaviour_logprobs=behaviour,
        advantages=torch.tensor([1.0, -1.0, 0.5, -0.5], dtype=torch.float64),
        mask=torch.ones(4, 6),
        proximal_logprobs=behaviour + 0.01,
        reference_logprobs=behaviour - 0.02,
        entropy=torch.rand((4, 6), generator=generator, dtype=torch.float64),
    )
    corrections = CorrectionConfig(importance="truncated", rejection_low=0.1, rejection_high=4.0)
    return RatioDiagnostics(policy_loss(inputs, GRPOConfig(kl_coefficient=0.1), corrections).metrics).figures()


def test_every_figure_of_the_core_has_a_field_and_no_field_is_made_up() -> None:
    assert set(every_figure()) == set(RatioFigures.model_fields)


def test_a_record_is_written_as_it_was_said_and_read_back() -> None:
    drift = DriftFigures(**every_figure(), buckets={"1/0": RatioFigures(kl_k3=0.5, tokens=3.0)})
    record = StepRecord(step=3, loss=float("nan"), drift=drift.with_mismatch(None))
    read = StepRecord.model_validate_json(record.to_json())
    assert read.loss is None and read.step == 3 and read.drift is not None
    assert read.drift.kl_k3 == drift.kl_k3 and list(read.drift.by_bucket()) == [(1, 0, drift.buckets["1/0"])]
    assert "reward_mean" not in record.plain()
    flat = dict(numbers(record))
    assert flat["drift.buckets.1/0.kl_k3"] == 0.5 and flat["loss"] is None and "drift.mismatch" in flat


def test_the_drift_share_is_what_the_mismatch_leaves() -> None:
    drift = DriftFigures(kl_k3=0.4)
    mismatch = Mismatch.of(RatioFigures(kl_k3=0.1, tokens=7.0, log_ratio_abs_max=0.2), "probe", 5)
    known = drift.with_mismatch(mismatch)
    assert known.drift_share == 0.75 and known.mismatch_kl_k3 == 0.1 and known.mismatch_log_ratio_abs_max == 0.2
    assert known.mismatch is not None and (known.mismatch.source, known.mismatch.step) == ("probe", 5)
    assert drift.with_mismatch(None).drift_share is None


def test_nulls_of_other_versions_are_read_as_what_was_not_said() -> None:
    line = '{"step":4,"guard":null,"waits":null,"drift":{"histograms":null,"by_staleness":{"0":{"ratio_sum":null}}}}'
    record = StepRecord.from_json(line)
    assert (record.step, record.guard.level, record.waits.batch) == (4, 0, None)
    assert record.drift.by_staleness[0].ratio_sum == 0.0
