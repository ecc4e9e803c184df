"""What a request may say, and what is refused with the field's name."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic import ValidationError

from services.job.base import field_docstrings
from services.job.objective import DEFAULT_GATE, SUPPLIED, corrections_config, objective_config
from services.job.spec import ExtensionSpec, derived_seed
from sspo_core.config import OBJECTIVES, CorrectionConfig


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_is_taken_or_says_what_the_learner_lacks(name: str) -> None:
    if OBJECTIVES[name].needs - SUPPLIED:
        with pytest.raises(ValidationError, match=f"name: {name} needs"):
            ExtensionSpec(objective={"name": name})
    else:
        resolved = ExtensionSpec(objective={"name": name}).objective
        assert objective_config(resolved) == OBJECTIVES[name](**(DEFAULT_GATE if name == "sspo" else {}))


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ({"name": "sgd"}, "unknown objective 'sgd'"),
        ({"name": "sspo", "tau": 1}, "tau: no such field"),
        ({"name": "sspo", "tau_pos": -1}, "tau_pos: must lie in"),
        ({"name": "sspo", "gate": "sigmoid_raw", "sides": "outward"}, "sides: outward needs a gate"),
        ({"name": "sspo", "kl_coefficient": -0.1}, "kl_coefficient: must lie in"),
    ],
)
def test_a_bad_objective_names_its_field(block: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        ExtensionSpec(objective=block)


@pytest.mark.parametrize("block", [None, {}, {"name": "sspo"}])
def test_a_job_that_names_no_gate_gets_the_measured_one(block: dict[str, object] | None) -> None:
    spec = ExtensionSpec() if block is None else ExtensionSpec(objective=block)
    assert {field: spec.objective[field] for field in DEFAULT_GATE} == DEFAULT_GATE
    warmer = ExtensionSpec(objective={"name": "sspo", "tau_pos": 9.0}).objective
    assert warmer == spec.objective | {"tau_pos": 9.0}


def test_a_job_that_names_its_gate_gets_the_published_structure() -> None:
    resolved = ExtensionSpec(objective={"name": "sspo", "gate": "sigmoid_raw"}).objective
    assert objective_config(resolved) == OBJECTIVES["sspo"](gate="sigmoid_raw")


@pytest.mark.parametrize(
    ("learner", "complaint"),
    [
        ({"corrections": {"importance": "squared"}}, "importance: "),
        ({"advantage": "batch_whitened", "drop_uninformative_groups": True}, "learner.drop_uninformative_groups: "),
        ({"corrections": {"cap": 2.0}}, "cap: no such field of the corrections"),
        ({"corrections": {"importance": "truncated"}}, "learner.corrections.importance: 'truncated' weighs"),
    ],
)
def test_a_bad_correction_names_its_field(learner: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        ExtensionSpec.model_validate({"learner": learner})


def test_token_weights_need_tokens_with_ratios_of_their_own() -> None:
    learner = {"corrections": {"importance": "masked", "level": "token"}, "proximal_logprobs": True}
    ExtensionSpec.model_validate({"objective": {"name": "gspo_token"}, "learner": learner})
    with pytest.raises(ValidationError, match=r"level: the tokens of this objective share"):
        ExtensionSpec.model_validate({"objective": {"name": "gspo"}, "learner": learner})


def test_corrections_that_have_their_weight_are_taken() -> None:
    truncated = {"importance": "truncated", "high": 3.0}
    spec = ExtensionSpec.model_validate({"learner": {"corrections": truncated, "proximal_logprobs": True}})
    assert corrections_config(spec.learner.corrections) == CorrectionConfig(importance="truncated", high=3.0)
    ExtensionSpec.model_validate({"objective": {"name": "rloo"}, "learner": {"corrections": truncated}})


@pytest.mark.parametrize(
    ("block", "advantage"),
    [
        ({}, "group_std"),
        ({"objective": {"name": "dr_grpo"}}, "group_mean"),
        ({"objective": {"name": "rloo"}, "learner": {"steps": 3}}, "leave_one_out"),
        ({"objective": {"name": "rloo"}, "learner": {"advantage": "group_std"}}, "group_std"),
    ],
)
def test_a_learner_that_names_no_advantage_gets_its_objectives(block: dict[str, object], advantage: str) -> None:
    assert ExtensionSpec.model_validate(block).learner.advantage == advantage


def test_every_field_of_an_objective_says_what_it_is() -> None:
    for config in (*OBJECTIVES.values(), CorrectionConfig):
        named = [field.name for field in dataclasses.fields(config)]
        assert list(field_docstrings(config)) == named, config.__name__


def test_an_inherited_field_may_be_described_anew() -> None:
    assert "small" in field_docstrings(OBJECTIVES["gspo"])["clip_low"]
    assert field_docstrings(OBJECTIVES["gspo"])["dual_clip"] == field_docstrings(OBJECTIVES["grpo"])["dual_clip"]


def test_truncated_sampling_is_refused_with_the_reason() -> None:
    with pytest.raises(ValidationError, match="top_p: training samples by temperature only"):
        ExtensionSpec.model_validate({"rollout": {"top_p": 0.9}})


def test_seeds_follow_from_their_parts() -> None:
    assert derived_seed(7, "sampling", 1) == derived_seed(7, "sampling", 1)
    assert len({derived_seed(7, "sampling", n) for n in range(1000)}) == 1000
    assert 0 <= derived_seed(7) < 2**62
