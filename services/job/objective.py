"""`x_sspo.objective` and `learner.corrections`: blocks whose fields are the frozen configs of `sspo_core.config`.

That package is plain standard library, so that the API needs no torch. Names, fields, defaults and bounds are there.
This module has our own defaults and the list of objectives that the service can't run.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from pydantic import GetJsonSchemaHandler, TypeAdapter, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from services.job.base import field_docstrings
from services.job.strict_json import JsonObject
from sspo_core.config import OBJECTIVES, CorrectionConfig, ObjectiveConfig

SUPPLIED = frozenset({"reference"})
"""Inputs that the learner can give an objective besides log-probs and advantages."""
DEFAULT_NAME = "sspo"
DEFAULT_GATE = {"gate": "logarctan_a", "sides": "outward", "tau_pos": 3.0, "tau_neg": 3.5}
"""SSPO's gate for a job that names none, chosen by measurement (docs/gates.md). A job that names a gate gets the class
defaults of `sspo_core`, the published structure, for what it leaves open."""


def objective_config(block: JsonObject) -> ObjectiveConfig:
    """The frozen config of `sspo_core` for `{"name": ..., **fields}`. Raises ValueError naming the field."""
    fields = dict(block)
    name = fields.pop("name", DEFAULT_NAME)
    if name not in OBJECTIVES:
        raise ValueError(f"name: unknown objective {name!r}; known: {sorted(OBJECTIVES)}")
    config: ObjectiveConfig = _core_config(OBJECTIVES[name], fields, f"objective {name!r}")
    return config


def corrections_config(fields: JsonObject) -> CorrectionConfig:
    """The off-policy corrections for these fields. Raises ValueError naming the field."""
    config: CorrectionConfig = _core_config(CorrectionConfig, fields, "the corrections")
    return config


def resolved_objective(block: JsonObject) -> JsonObject:
    """The block with every field named. Raises ValueError naming the field, also for what the learner can't supply."""
    name = block.get("name", DEFAULT_NAME)
    if name == DEFAULT_NAME and "gate" not in block:
        block = {**DEFAULT_GATE, **block}
    config = objective_config(block)
    missing = sorted(config.needs - SUPPLIED)
    if missing:
        raise ValueError(f"name: {name} needs {', '.join(missing)}, which the learner can't supply yet")
    return {"name": name, **dataclasses.asdict(config)}


def runnable_objectives() -> dict[str, type[ObjectiveConfig]]:
    """Name → config class of the objectives that the learner can run."""
    return {name: config for name, config in OBJECTIVES.items() if not config.needs - SUPPLIED}


@functools.cache
def _adapter(config: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(config)


def _core_config(config: Any, fields: JsonObject, whose: str) -> Any:
    unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(config)})
    if unknown:
        raise ValueError(f"{unknown[0]}: no such field of {whose}")
    try:
        return _adapter(config).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")  # a config's own check names its field itself
        raise ValueError(f"{where}: {message}" if where else message) from error


class CorrectionsSchema:
    """Annotates a block of corrections: shows its fields in the JSON schema."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _block_schema(CorrectionConfig, handler)


class ObjectiveSchema:
    """Annotates an objective block: shows one alternative for each objective in the JSON schema."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [_alternative(name, config, handler) for name, config in runnable_objectives().items()]}


def _alternative(name: str, config: type[ObjectiveConfig], handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    reference = _block_schema(config, handler)
    block = handler.resolve_ref_schema(reference)
    title = (config.__doc__ or "").split("\n")[0]
    block["properties"] = {"name": {"const": name, "type": "string", "description": title}, **block["properties"]}
    if name == DEFAULT_NAME:
        for field, value in DEFAULT_GATE.items():
            block["properties"][field]["default"] = value
    else:
        block["required"] = ["name"]
    return reference


def _block_schema(config: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    reference = handler(_adapter(config).core_schema)
    block = handler.resolve_ref_schema(reference)
    block["additionalProperties"] = False
    for field, text in field_docstrings(config).items():
        block["properties"][field]["description"] = text
    return reference
