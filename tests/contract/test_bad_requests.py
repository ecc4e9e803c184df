"""Create requests that must not pass: each is a 400 that names its field, and leaves no job."""

from __future__ import annotations

import copy
from typing import Any

import httpx
import openai
import pytest

from services.store.client import Client
from services.store.job.jobs import Jobs

GRADER = "method.reinforcement.grader"
HYPER = "method.reinforcement.hyperparameters"
GONE = "(gone)"

BAD: list[tuple[str, Any, str]] = [
    # where, value, the field that the answer must name
    ("model", GONE, "model"),
    ("model", "no-such-model", "model"),
    ("model", "../tiny", "model"),
    ("model", 7, "model"),
    ("training_file", GONE, "training_file"),
    ("training_file", "file-none", "training_file"),
    ("training_file", "../../etc/passwd", "training_file"),
    ("validation_file", "file-none", "validation_file"),
    ("method", GONE, "method"),
    ("method", "reinforcement", "method"),
    ("method.type", "supervised", "method.type"),
    ("method.type", "dpo", "method.type"),
    ("method.type", GONE, "method.type"),
    ("method.reinforcement", GONE, "method.reinforcement"),
    (GRADER, GONE, GRADER),
    (GRADER, [], GRADER),
    (f"{GRADER}.type", "python", f"{GRADER}.type"),
    (f"{GRADER}.type", "multi", f"{GRADER}.type"),
    (f"{GRADER}.type", GONE, f"{GRADER}.type"),
    (f"{GRADER}.operation", "equals", f"{GRADER}.operation"),
    (f"{GRADER}.reference", "{{ secrets.key }}", f"{GRADER}.reference"),
    (f"{GRADER}.input", GONE, f"{GRADER}.input"),
    (f"{GRADER}.extra", 1, f"{GRADER}.extra"),
    (f"{HYPER}.batch_size", 0, f"{HYPER}.batch_size"),
    (f"{HYPER}.batch_size", "8", f"{HYPER}.batch_size"),
    (f"{HYPER}.batch_size", True, f"{HYPER}.batch_size"),
    (f"{HYPER}.n_epochs", 1.5, f"{HYPER}.n_epochs"),
    (f"{HYPER}.learning_rate_multiplier", -1, f"{HYPER}.learning_rate_multiplier"),
    (f"{HYPER}.eval_interval", "often", f"{HYPER}.eval_interval"),
    (f"{HYPER}.compute_multiplier", 2.0, f"{HYPER}.compute_multiplier"),
    (f"{HYPER}.reasoning_effort", "high", f"{HYPER}.reasoning_effort"),
    (f"{HYPER}.beta", 0.1, f"{HYPER}.beta"),
    ("suffix", "x" * 65, "suffix"),
    ("suffix", "a/b", "suffix"),
    ("suffix", "ü", "suffix"),
    ("seed", -1, "seed"),
    ("seed", "42", "seed"),
    ("metadata", {"k": 1}, "metadata.k"),
    ("metadata", {"k": "x" * 513}, "metadata.k"),
    ("metadata", {str(number): "" for number in range(17)}, "metadata"),
    ("integrations", "wandb", "integrations"),
    ("integrations", [{"type": "mlflow"}], "integrations.0.type"),
    ("integrations", [{"type": "wandb", "wandb": {"project": "p", "key": "k"}}], "integrations.0.wandb.key"),
    ("no_such_field", 1, "no_such_field"),
    ("x_sspo", [], "x_sspo"),
    ("x_sspo.learner.foo", 1, "x_sspo.learner.foo"),
    ("x_sspo.nonsense", {}, "x_sspo.nonsense"),
    ("x_sspo.rollout.group_size", 0, "x_sspo.rollout.group_size"),
    ("x_sspo.rollout.group_size", "8", "x_sspo.rollout.group_size"),
    ("x_sspo.rollout.top_p", 0.9, "x_sspo.rollout.top_p"),
    ("x_sspo.rollout.temperature", 0, "x_sspo.rollout.temperature"),
    ("x_sspo.learner.staleness_policy", "hope", "x_sspo.learner.staleness_policy"),
    ("x_sspo.objective.name", "no_such_objective", "x_sspo.objective.name"),
    ("x_sspo.objective.no_such_field", 1, "x_sspo.objective.no_such_field"),
    ("x_sspo.evaluation.every", 5, "x_sspo.evaluation"),
    ("x_sspo.guard.kl", {}, "x_sspo.guard.kl"),
    ("x_sspo.guard.actions", ["shout"], "x_sspo.guard.actions.0"),
    ("x_sspo.guard.kl_k3", {"enter": 0.1}, "x_sspo.guard.kl_k3.leave"),
    ("x_sspo.guard.kl_k3", {"enter": 0.1, "leave": 0.2}, "x_sspo.guard.kl_k3"),
    ("x_sspo.sinks.files", True, "x_sspo.sinks.files"),
]


def changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of the body with one place set or removed."""
    result = copy.deepcopy(body)
    *parents, last = path.split(".")
    place = result
    for name in parents:
        place = place.setdefault(name, {})
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return result


@pytest.mark.parametrize(("path", "value", "param"), BAD, ids=lambda part: str(part)[:60])
def test_a_bad_create_names_its_field(
    http: httpx.Client, client: Client, body: dict[str, Any], path: str, value: Any, param: str
) -> None:
    answer = http.post("/v1/fine_tuning/jobs", json=changed(body, path, value))
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert isinstance(error["code"], str)
    assert len(error["message"]) > 10
    assert Jobs(client).ids() == []


def test_the_sdk_sees_the_field_too(sdk: openai.OpenAI, body: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.jobs.create(**body, extra_body={"x_sspo": {"learner": {"foo": 1}}})
    assert (refused.value.param, refused.value.code) == ("x_sspo.learner.foo", "unknown_parameter")
    assert "Unknown field 'x_sspo.learner.foo'" in refused.value.message


def test_a_file_of_another_purpose_is_no_training_file(sdk: openai.OpenAI, body: dict[str, Any]) -> None:
    other = sdk.files.create(file=("a", b"x"), purpose="batch")
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.jobs.create(**{**body, "training_file": other.id})
    assert refused.value.param == "training_file"
    assert "'batch'" in refused.value.message


def test_epochs_of_an_empty_file_give_no_steps(sdk: openai.OpenAI, body: dict[str, Any]) -> None:
    empty = sdk.files.create(file=("a", b"\n"), purpose="fine-tune")
    wanted = changed({**body, "training_file": empty.id}, f"{HYPER}.n_epochs", 1)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.jobs.create(**wanted)
    assert refused.value.param == "training_file"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b'{"seed": NaN}',
        b'{"seed": Infinity}',
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b'{"a":' * 20_000,
        b'{"seed": ' + b"9" * 5_000 + b"}",
    ],
    ids=range(10),
)
def test_a_body_that_is_no_json_object_is_refused(http: httpx.Client, raw: bytes) -> None:
    answer = http.post("/v1/fine_tuning/jobs", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"


@pytest.mark.parametrize("query", ["limit=0", "limit=100000", "limit=many", "after=ftjob-none"])
def test_a_bad_page_names_its_parameter(http: httpx.Client, query: str) -> None:
    answer = http.get(f"/v1/fine_tuning/jobs?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.split("=")[0]
