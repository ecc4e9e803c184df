"""JSON bodies, read strictly: valid UTF-8, one object, no NaN, and no "8" where a number belongs.

FastAPI would read a body itself, but leniently. So a route takes a dependency, `JsonBody(Model)`, which gives it the
object as it came and as its model; `JsonRoute` shows the model in /docs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Request, params
from fastapi.routing import APIRoute
from fastapi.utils import create_model_field
from pydantic import BaseModel, JsonValue, ValidationError

from services.api.errors import bad_request, from_validation
from services.job import strict_json
from services.job.strict_json import JsonObject

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Accepted(Generic[Model]):
    """A request's JSON object: as it came, and as its model."""

    raw: JsonObject
    value: Model


async def _raw(request: Request) -> bytes:
    return await request.body()


class JsonBody(Generic[Model]):
    """A dependency: the body of a request. Raises ApiError (400) naming the field."""

    def __init__(self, model: type[Model]) -> None:
        self.model = model

    def __call__(self, raw: Annotated[bytes, Depends(_raw)]) -> Accepted[Model]:
        """Plain and not async, so that FastAPI runs it in a thread: a body may be large."""
        return accept(self.model, read(raw))


class JsonRoute(APIRoute):
    """A route that shows the model of its `JsonBody` in /docs."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        for dependency in self.dependant.dependencies:
            if isinstance(dependency.call, JsonBody):
                model = dependency.call.model
                # After the handler was made, which reads no body by itself: for /docs alone.
                self.body_field = create_model_field("body", model, field_info=params.Body(annotation=model))


def read(raw: bytes) -> JsonObject:
    """The object that these bytes are. Raises ApiError (400)."""
    try:
        body = strict_json.parse(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise bad_request(None, f"The body is not JSON: {error}", "invalid_json") from error
    if not isinstance(body, dict):
        raise bad_request(None, f"The body must be a JSON object, not {type(body).__name__}", "invalid_json")
    if (path := _infinite(body)) is not None:
        raise bad_request(path, f"Invalid '{path}': the number is too large")
    return body


def accept(model: type[Model], body: JsonObject) -> Accepted[Model]:
    """The object and its model. Raises ApiError (400) naming the field."""
    try:
        # Through JSON, because only there pydantic's strict mode takes an object for a model.
        return Accepted(body, model.model_validate_json(json.dumps(body), strict=True))
    except ValidationError as error:
        raise from_validation(error.errors(include_url=False)) from error


def _infinite(value: JsonValue) -> str | None:
    """Dotted path of the first number that is too large for a float: no JSON could carry it back."""
    if isinstance(value, float):
        return "" if math.isinf(value) else None
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        if (path := _infinite(part)) is not None:
            return f"{name}.{path}" if path else str(name)
    return None
