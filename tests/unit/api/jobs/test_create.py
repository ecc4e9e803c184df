"""From a request to a job, without any server: precedence, and what the job's record holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.api.bodies import accept
from services.api.errors import ApiError
from services.api.jobs.create import JobDraft, Known, build, with_id
from services.api.schemas.create import CreateJob
from services.disk.layout import UnknownModel
from services.job.spec import EvaluationSpec, LearnerSpec, RolloutSpec

GRADER = {
    "type": "regex_match",
    "name": "number",
    "input": "{{ sample.output_text }}",
    "pattern": r"-?\d+",
    "reference": "{{ item.answer }}",
}


def find_model(name: str) -> None:
    if name != "tiny":
        raise UnknownModel(f"model {name!r} is not registered here")


PURPOSES = {"file-1": "fine-tune", "file-2": "fine-tune", "file-3": "batch"}
KNOWN = Known(find_model, PURPOSES.get, rows_of=lambda file_id: 10, try_grader=lambda block: None)


def draft(hyperparameters: dict[str, Any] | None = None, *, known: Known = KNOWN, **fields: Any) -> JobDraft:
    reinforcement = {"grader": GRADER, "hyperparameters": hyperparameters}
    method = {"type": "reinforcement", "reinforcement": reinforcement}
    body = {"model": "tiny", "training_file": "file-1", "method": method, **fields}
    return build(accept(CreateJob, body), known, job_id="ftjob-1", created_at=100, seed=7)


def test_a_plain_request_gets_every_default() -> None:
    record = draft().record
    assert (record.spec.rollout, record.spec.learner) == (RolloutSpec(), LearnerSpec())
    assert (record.spec.seed, record.spec.grader, record.spec.evaluation) == (7, GRADER, None)
    assert (record.rollout_workers, record.reward_workers) == (1, 1)
    assert record.spec.objective["name"] == "sspo"
    assert len(record.spec.objective) > 1


@pytest.mark.parametrize(
    ("hyperparameters", "learner", "steps"),
    [
        ({"n_epochs": 3, "batch_size": 4}, {}, 8),
        ({"n_epochs": 3, "batch_size": 4}, {"batch_size": 30}, 1),
        ({"n_epochs": 3, "batch_size": 4}, {"steps": 2}, 2),
        ({"n_epochs": "auto", "batch_size": 4}, {}, LearnerSpec().steps),
        ({"n_epochs": 1}, {}, 1),
        (None, {"steps": 5}, 5),
    ],
)
def test_epochs_give_the_steps_unless_the_learner_does(
    hyperparameters: dict[str, Any] | None, learner: dict[str, Any], steps: int
) -> None:
    assert draft(hyperparameters, x_sspo={"learner": learner}).record.spec.learner.steps == steps


def test_what_a_hyperparameter_fills_in_keeps_to_the_bounds() -> None:
    many = replace(KNOWN, rows_of=lambda file_id: 1000)
    with pytest.raises(ApiError) as refused:
        draft({"n_epochs": 65_536, "batch_size": 1}, known=many)
    assert (refused.value.status, refused.value.param) == (400, "method.reinforcement.hyperparameters.n_epochs")
    assert "65536000" in refused.value.message and "less than or equal to 10000000" in refused.value.message
    assert draft({"n_epochs": 10_000, "batch_size": 1}, known=many).record.spec.learner.steps == 10_000_000


@pytest.mark.parametrize(
    ("multiplier", "learner", "rate"), [(2, {}, 2e-5), (0.5, {"learning_rate": 1e-3}, 1e-3), ("auto", {}, 1e-5)]
)
def test_the_multiplier_scales_the_default_rate(multiplier: Any, learner: dict[str, Any], rate: float) -> None:
    found = draft({"learning_rate_multiplier": multiplier}, x_sspo={"learner": learner}).record.spec.learner
    assert found.learning_rate == pytest.approx(rate)


def test_evaluation_needs_a_validation_file_and_the_extension_wins() -> None:
    asked = {"eval_interval": 3, "eval_samples": 5}
    assert draft(asked).record.spec.evaluation is None
    assert draft(asked, validation_file="file-2").record.spec.evaluation == EvaluationSpec(every=3, samples=5)
    both = draft(asked, validation_file="file-2", x_sspo={"evaluation": {"every": 9}})
    assert both.record.spec.evaluation == EvaluationSpec(every=9, samples=5)


def test_a_seed_of_zero_is_a_seed() -> None:
    assert draft(seed=0).record.spec.seed == 0


def test_what_is_only_recorded_is_said() -> None:
    assert draft(integrations=[], response_format=None).warnings == ()
    assert [warning.split()[0] for warning in draft(response_format={"type": "json"}).warnings] == ["response_format"]


def test_another_id_reaches_record_and_spec() -> None:
    moved = with_id(draft().record, "ftjob-2")
    assert (moved.id, moved.spec.job_id) == ("ftjob-2", "ftjob-2")


@pytest.mark.parametrize("base", ["tiny", "org/tiny"])
def test_the_trained_model_has_a_name_without_a_slash(base: str) -> None:
    record = draft(suffix="my-run").record
    named = record.model_copy(update={"spec": record.spec.model_copy(update={"model": base})})
    assert named.model_name == "ft:tiny:sspo:my-run:1"


def test_a_refusal_is_an_api_error_with_its_field() -> None:
    with pytest.raises(ApiError) as refused:
        draft(training_file="file-3")
    assert (refused.value.status, refused.value.param) == (400, "training_file")
