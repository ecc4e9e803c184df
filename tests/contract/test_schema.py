"""The job's JSON schema as the service gives it."""

from __future__ import annotations

from typing import Any

import httpx
from jsonschema import Draft202012Validator

from services.api.schemas.job_file import job_schema


def test_the_schema_of_a_job_is_served_and_fits_a_good_request(http: httpx.Client, body: dict[str, Any]) -> None:
    schema = http.get("/v1/x/schema/job").json()
    assert schema == job_schema()
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(body)
    assert httpx.get(f"{http.base_url}/v1/x/schema/job").status_code == 401
