"""JSON bodies, read strictly: valid UTF-8, one object, no NaN, and no "8" where a number belongs."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from pydantic import BaseModel, ValidationError

from services.api.errors import bad_request, from_validation
from services.job import strict_json

Model = TypeVar("Model", bound=BaseModel)


async def _read(request: Request) -> dict[str, Any]:
    raw = await request.body()
    try:
        body = strict_json.parse(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise bad_request(None, f"The body is not JSON: {error}", "invalid_json") from error
    if not isinstance(body, dict):
        raise bad_request(None, f"The body must be a JSON object, not {type(body).__name__}", "invalid_json")
    if (path := _infinite(body)) is not None:
        raise bad_request(path, f"Invalid '{path}': the number is too large")
    return body


def _infinite(value: Any) -> str | None:
    """Dotted path of the first number that is too large for a float: no JSON could carry it back."""
    if isinstance(value, float):
        return "" if math.isinf(value) else None
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        if (path := _infinite(part)) is not None:
            return f"{name}.{path}" if path else str(name)
    return None


JsonBody = Annotated[dict[str, Any], Depends(_read)]
"""A route's parameter of this type is the request's JSON object. Raises ApiError (400)."""


def parse(model: type[Model], body: dict[str, Any]) -> Model:
    """The typed body. Raises ApiError (400) naming the field."""
    try:
        # Through JSON, because only there pydantic's strict mode takes an object for a model.
        return model.model_validate_json(json.dumps(body), strict=True)
    except ValidationError as error:
        raise from_validation(error.errors(include_url=False)) from error
