"""/openapi.json: every route says what it takes, what it answers and how it fails; every field says what it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

WITHOUT_JSON = {"/v1/files/{file_id}/content", "/v1/x/jobs/{job_id}/events/stream", "/metrics"}
WITH_BODY = {
    ("post", "/v1/fine_tuning/jobs"): "CreateJob",
    ("post", "/v1/fine_tuning/alpha/graders/run"): "RunGrader",
    ("post", "/v1/fine_tuning/alpha/graders/validate"): "ValidateGrader",
    ("put", "/v1/x/jobs/{job_id}/rollout_workers"): "Scale",
    ("put", "/v1/x/jobs/{job_id}/reward_workers"): "Scale",
}


@pytest.fixture
def document(http: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = http.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_operation_has_a_summary_and_a_schema_of_its_answer(document: dict[str, Any]) -> None:
    found = list(operations(document))
    assert len(found) > 25
    for method, path, operation in found:
        assert operation["summary"] and operation["description"], (method, path)
        [(media_type, content)] = operation["responses"]["200"]["content"].items()
        assert (media_type == "application/json") is (path not in WITHOUT_JSON), path
        assert content["schema"], (method, path)


def test_every_body_has_its_schema(document: dict[str, Any]) -> None:
    bodies = {
        (method, path): operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1]
        for method, path, operation in operations(document)
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    assert bodies == WITH_BODY
    upload = document["paths"]["/v1/files"]["post"]["requestBody"]
    assert "multipart/form-data" in upload["content"]


def test_every_operation_says_how_it_fails(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        failures = {status: one for status, one in operation["responses"].items() if status != "200"}
        for one in failures.values():
            assert one["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorAnswer"), (method, path)
        expected = {"default"}
        expected |= {"401"} if path.startswith("/v1/") else set()
        expected |= {"404"} if "{" in path else set()
        expected |= {"400", "413"} if "requestBody" in operation else set()
        assert expected <= failures.keys(), (method, path)
        assert "422" not in failures, "a bad request is a 400 here"


def described(schema: Any, place: str) -> Iterator[tuple[str, bool]]:
    """Every property below a schema, and whether it says what it is."""
    if isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from described(part, f"{place}.{number}")
    if not isinstance(schema, dict):
        return
    for name, field in schema.get("properties", {}).items():
        yield f"{place}.{name}", "description" in field or "$ref" in field  # what is referred to says it
        yield from described(field, f"{place}.{name}")
    for name in ("anyOf", "oneOf", "items", "additionalProperties"):
        yield from described(schema.get(name), place)


def test_every_field_and_every_parameter_says_what_it_is(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    # The others are made of these.
    own = {name: schema for name, schema in schemas.items() if "_" not in name and name != "JsonValue"}
    assert [name for name, schema in own.items() if not schema.get("description")] == []
    found = {place: said for name, schema in schemas.items() for place, said in described(schema, name)}
    assert len(found) > 400
    assert [place for place, said in found.items() if not said] == []
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (method, path, parameter["name"])


def test_an_answer_fits_its_schema(http: httpx.Client, document: dict[str, Any], body: dict[str, Any]) -> None:
    created = http.post("/v1/fine_tuning/jobs", json=body).json()
    checked = {
        "/v1/fine_tuning/jobs/{job_id}": f"/v1/fine_tuning/jobs/{created['id']}",
        "/v1/fine_tuning/jobs": "/v1/fine_tuning/jobs",
        "/v1/fine_tuning/jobs/{job_id}/events": f"/v1/fine_tuning/jobs/{created['id']}/events",
        "/v1/files": "/v1/files",
        "/v1/x/jobs/{job_id}": f"/v1/x/jobs/{created['id']}",
        "/v1/x/jobs/{job_id}/explain": f"/v1/x/jobs/{created['id']}/explain",
        "/v1/x/models": "/v1/x/models",
    }
    for path, address in checked.items():
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        whole = {**copy.deepcopy(schema), "components": document["components"]}
        errors = [error.message for error in Draft202012Validator(whole).iter_errors(http.get(address).json())]
        assert errors == [], path
    refused = http.get("/v1/fine_tuning/jobs/ftjob-none").json()
    whole = {"$ref": "#/components/schemas/ErrorAnswer", "components": document["components"]}
    assert Draft202012Validator(whole).is_valid(refused)
