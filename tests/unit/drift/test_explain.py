"""Explanations of recorded jobs: each is named for what is wrong with it, and for nothing that is not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.monitoring.alerts.drift import NAMED
from services.drift.explain import explain
from services.drift.explain_engine import mismatch_of
from services.drift.findings import Finding, Surroundings
from services.job.spec import JobSpec
from services.records.step import StepRecord
from services.records.worker import WorkerRecord
from tests.support.tiny import job_spec

TRACES = Path(__file__).parent / "traces"
CAUSES = {
    "learning_rate_too_high",
    "weights_late",
    "samples_wait",
    "stale_engine",
    "sampling_temperature",
    "truncated_sampling",
    "hidden_sampling",
}


def trace(name: str) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads((TRACES / f"{name}.json").read_text())
    return records


def names(records: list[dict[str, Any]], **around: Any) -> dict[str, Finding]:
    return {finding.name: finding for finding in explain(job_spec(), typed(records), Surroundings(**around))}


def typed(records: list[dict[str, Any]]) -> list[StepRecord]:
    return [StepRecord.model_validate(record) for record in records]


@pytest.mark.parametrize(
    ("recorded", "steps", "cause"),
    [
        ("calm", 12, None),
        ("learning_rate_too_high", 4, "learning_rate_too_high"),
        ("weights_late", 30, "weights_late"),
        ("sampling_temperature", 10, "sampling_temperature"),
        ("sampling_temperature_hot", 10, "sampling_temperature"),
        ("truncated_sampling", 10, "truncated_sampling"),
        ("hidden_sampling", 10, "hidden_sampling"),
        ("engine_numerics", 10, None),
    ],
)
def test_a_recorded_job_is_named_for_what_is_wrong_with_it(recorded: str, steps: int, cause: str | None) -> None:
    found = names(trace(recorded)[:steps])
    assert CAUSES & set(found) == ({cause} if cause else set())
    assert ("nothing_wrong" in found) == (recorded in ("calm", "engine_numerics"))


def test_alerts_name_the_causes() -> None:
    assert set(NAMED) == CAUSES | {"engine_behind", "reward_collapsed"}


def test_one_step_is_enough_for_a_wrong_temperature_and_a_truncation() -> None:
    for name in ("sampling_temperature", "truncated_sampling"):
        assert name in names(trace(name)[:1])


def test_the_engines_temperature_is_estimated() -> None:
    for recorded, temperature in (("sampling_temperature", 0.8), ("sampling_temperature_hot", 1.2)):
        found = names(trace(recorded))["sampling_temperature"]
        assert found.evidence["temperature"] == pytest.approx(temperature, abs=0.02)
        assert f"{temperature:.1f}" in found.text


def test_how_much_of_the_deviation_is_the_engines_is_said() -> None:
    found = names(trace("engine_numerics"))["engine_numerics"]
    assert "of the deviation is engine mismatch" in found.text and 0 < found.evidence["engine_share"] <= 1
    spec = job_spec().model_copy(update={"rollout": job_spec().rollout.model_copy(update={"dtype": "bfloat16"})})
    texts = [one.text for one in explain(spec, typed(trace("engine_numerics")))]
    assert any("bfloat16 engine, float32 learner; set rollout.dtype" in text for text in texts)


def test_a_mismatch_that_nobody_measured_is_said_to_be_unknown() -> None:
    records = trace("calm")
    for record in records:
        record["drift"]["mismatch"] = None
    assert "unknown" in names(records)["mismatch_unknown"].title
    assert mismatch_of(typed(records)) is None


def test_a_measurement_that_is_repeated_counts_once() -> None:
    record = trace("truncated_sampling")[0]
    alone, repeated = mismatch_of(typed([record])), mismatch_of(typed([record] * 5))
    assert alone is not None and repeated == alone


def test_young_samples_tell_a_learning_rate_from_late_weights() -> None:
    """With one update a step it is how far a step moves the policy."""

    def stale(per_step: float) -> list[dict[str, Any]]:
        buckets = {f"{steps}/0": {"tokens": 100, "kl_k3": per_step * steps} for steps in (1, 2)}
        drift = {"kl_k3": 1.5 * per_step, "buckets": buckets}
        return [{"step": 0, "staleness_mean": 1.5, "weights_lag_mean": 0.0, "drift": drift}]

    assert "learning_rate_too_high" in names(stale(0.1))
    assert not CAUSES & set(names(stale(0.005)))


def test_what_only_the_engine_differs_by_is_no_learning_rate() -> None:
    apart = {"tokens": 4000, "kl_k3": 0.1, "kl_k1": 0.0, "ratio_max": 3.0, "source": "probe", "step": 0}
    buckets = {f"{steps}/0": {"tokens": 100, "kl_k3": 0.1 + 1e-4 * steps} for steps in (1, 2)}
    drift = {"kl_k3": 0.1, "buckets": buckets, "mismatch": apart, "mismatch_kl_k3": 0.1, "drift_share": 0.0}
    found = names([{"step": 0, "staleness_mean": 1.5, "weights_lag_mean": 0.0, "drift": drift}])
    assert not CAUSES & set(found) and found["engine_numerics"].severity == "warn"


def test_where_samples_were_selected_their_surprise_is_no_more_than_a_hint() -> None:
    records = trace("hidden_sampling")
    assert names(records)["hidden_sampling"].severity == "error"
    filtered = job_spec(drop_uninformative_groups=True)
    assert {one.severity for one in explain(filtered, typed(records)) if one.name == "hidden_sampling"} == {"info"}
    for record in records:
        record["staleness_max"] = 2
    assert names(records)["hidden_sampling"].severity == "info"


def test_an_engine_that_failed_its_canary_long_ago_is_not_what_is_wrong_now() -> None:
    assert "stale_engine" in names(trace("calm"), canary_failures=1, canary_quiet_seconds=60.0)
    assert "stale_engine" not in names(trace("calm"), canary_failures=1, canary_quiet_seconds=3600.0)


def test_samples_may_be_old_where_the_policy_hardly_moved() -> None:
    records = trace("weights_late")
    for record in records:
        record["weights_lag_mean"] = 0.0
        record["drift"]["kl_k3"] = 0.001
    assert "samples_wait" not in names(records)


def test_samples_that_wait_are_not_late_weights() -> None:
    records = trace("weights_late")
    for record in records:
        record["weights_lag_mean"] = 0.0
    assert CAUSES & set(names(records)) == {"samples_wait"}


def worker(name: str, version: int) -> WorkerRecord:
    return WorkerRecord(id=name, kind="rollout", state="ready", policy_version=version, node="n", pid=1, heartbeat=0.0)


@pytest.mark.parametrize(
    ("step_seconds", "lag", "said"), [(60.0, 3, True), (60.0, 2, False), (0.1, 6, False), (0.1, 60, True)]
)
def test_a_worker_is_behind_by_versions_and_by_time(step_seconds: float, lag: int, said: bool) -> None:
    records = [{**record, "time": step_seconds * index} for index, record in enumerate(trace("calm"))]
    workers = [worker("a", 99), worker("b", 100 - lag)]
    assert ("engine_behind" in names(records, policy_version=100, workers=workers)) is said


@pytest.mark.parametrize(
    ("around", "name"),
    [
        ({"canary_failures": 2}, "stale_engine"),
        ({"policy_version": 9, "workers": [worker("a", 9), worker("b", 4)]}, "engine_behind"),
        ({"issued": 100, "dropped": {"grader_failed": 10}}, "graders_fail"),
        ({"dead_letters": {"malformed": 1}}, "dead_letters"),
        ({"trained_tokens": 70, "wasted_tokens": {"stale": 25, "duplicate": 5}}, "wasted_tokens"),
        ({"waits_for": "a full batch", "waited_seconds": 3.0}, "waiting"),
    ],
)
def test_what_surrounds_a_job_is_named(around: Mapping[str, Any], name: str) -> None:
    assert name in names(trace("calm"), **around)
    assert name not in names(trace("calm"))


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"drift": {"gate_saturated_ratio": 0.7}}, "gate_saturated"),
        ({"reward_zero_variance_groups_ratio": 0.9}, "flat_rewards"),
        ({"waits": {"batch": 9.0}, "seconds": 1.0}, "queue_starves"),
        ({"guard": {"level": 2, "actions": ["throttle"], "reasons": ["kl_k3 0.3 above 0.2"]}}, "guard_acts"),
    ],
)
def test_what_steps_say_is_named(changed: dict[str, Any], name: str) -> None:
    records = trace("calm")
    assert name not in names(records)
    for record in records:
        record |= {**changed, "drift": record["drift"] | changed.get("drift", {})}
    assert name in names(records)


def test_a_stall_is_graver_than_a_wait() -> None:
    spec: JobSpec = job_spec()
    long = spec.learner.stall_seconds + 1
    found = names([], waits_for="a full batch", waited_seconds=long)["waiting"]
    assert found.severity == "warn"


def test_a_collapsed_reward_is_named_when_its_ratios_are_fine_again() -> None:
    records = trace("learning_rate_too_high")
    assert "reward_collapsed" in names(records)
    assert "reward_collapsed" not in names(trace("calm") + trace("calm"))


def test_evidence_is_plain_finite_numbers() -> None:
    for path in TRACES.glob("*.json"):
        for finding in explain(job_spec(), typed(trace(path.stem))):
            text = json.dumps(dict(finding.evidence), allow_nan=False)
            assert all(math.isfinite(v) for v in json.loads(text).values() if isinstance(v, float))
