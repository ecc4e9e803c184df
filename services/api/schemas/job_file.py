"""The JSON schema of a job file: the create request with its descriptions, for editors and validators.

Invariant: the schema accepts every job that the service accepts. The service refuses more, because a schema can't know
which files and models exist or which fields need each other.
"""

from __future__ import annotations

from functools import cache

from pydantic import JsonValue

from services.api.schemas.create import CreateJob

JsonObject = dict[str, JsonValue]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TITLE = "SSPO job"
PATH = "Or, in a job file, a path beside it, which is uploaded."


@cache
def job_schema() -> JsonObject:
    """The schema, which refers to nothing outside itself; one object for all callers, not to be changed."""
    schema: JsonObject = CreateJob.model_json_schema()
    _tidy(schema)
    properties = _object(schema["properties"])
    for field in ("training_file", "validation_file"):
        _object(properties[field])["description"] = f"{_object(properties[field])['description']} {PATH}"
    return {"$schema": DIALECT, **schema, "title": TITLE}


def _tidy(value: JsonValue) -> None:
    """Put descriptions on one line, and drop titles that repeat names and defaults that repeat those of a block."""
    if isinstance(value, list):
        for part in value:
            _tidy(part)
    if not isinstance(value, dict):
        return
    if isinstance(value.get("title"), str):
        del value["title"]
    if "$ref" in value:
        value.pop("default", None)
    if isinstance(text := value.get("description"), str):
        value["description"] = " ".join(text.split())
    for part in value.values():
        _tidy(part)


def _object(value: JsonValue) -> JsonObject:
    assert isinstance(value, dict)
    return value
