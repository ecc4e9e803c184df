"""A block of a JSON schema as a Markdown table: field, type, default, bounds, what it does."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

from pydantic import JsonValue

JsonObject = dict[str, JsonValue]

HEAD = ("| field | type | default | bounds | what it does |", "|---|---|---|---|---|")
WORDS = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "object": "block"}
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} character",
    "maxLength": "at most {} characters",
    "maxItems": "at most {}",
    "maxProperties": "at most {}",
    "pattern": "`{}`",
}


def objects(value: JsonValue) -> dict[str, JsonObject]:
    """A mapping whose values are objects, as `properties` and `$defs` are."""
    assert isinstance(value, dict)
    return {name: part for name, part in value.items() if isinstance(part, dict)}


def text_of(block: JsonObject) -> str:
    """What a block or field says of itself."""
    return str(block.get("description", ""))


def table(block: JsonObject, blocks: dict[str, JsonObject], only: Collection[str] = ()) -> Iterator[str]:
    """The lines of the table, of all fields or of those named."""
    required = block.get("required", [])
    yield from HEAD
    for name, field in objects(block["properties"]).items():
        if only and name not in only:
            continue
        default = "required" if isinstance(required, list) and name in required else _default(field)
        text = text_of(field) or text_of(blocks.get(_reference(field), {}))
        cells = (f"`{name}`", _type(field, blocks), default, _bounds(field), text)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _reference(field: JsonObject) -> str:
    """Name of the block that a field is; "" for one that is none."""
    return str(field.get("$ref", "")).rsplit("/", 1)[-1]


def _alternatives(field: JsonObject) -> list[JsonObject]:
    """What a field may be, null left out."""
    found = field.get("anyOf") or field.get("oneOf") or [field]
    assert isinstance(found, list)
    return [part for part in found if isinstance(part, dict) and part.get("type") != "null"]


def _type(field: JsonObject, blocks: dict[str, JsonObject]) -> str:
    kinds = [_kind(part, blocks) for part in _alternatives(field)]
    either = field.get("anyOf")
    nullable = isinstance(either, list) and {"type": "null"} in either
    return " or ".join([*dict.fromkeys(kinds), *(["null"] if nullable else [])])


def _kind(part: JsonObject, blocks: dict[str, JsonObject]) -> str:
    if reference := _reference(part):
        return WORDS[str(blocks[reference]["type"])]
    if "const" in part:
        return f"`{part['const']}`"
    if isinstance(choices := part.get("enum"), list):
        return ", ".join(f"`{choice}`" for choice in choices)
    if isinstance(items := part.get("items"), dict):
        return f"list of {_kind(items, blocks)}"
    return WORDS.get(str(part.get("type")), "anything")


def _default(field: JsonObject) -> str:
    if "default" not in field:
        return ""
    value = field["default"]
    if isinstance(value, float) and not 1e-3 <= abs(value) < 1e6 and value:
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).strip("{}").replace('"', "")


def _bounds(field: JsonObject) -> str:
    found: list[str] = []
    for part in _alternatives(field):
        found += [words.format(_number(part[name])) for name, words in BOUNDS.items() if name in part]
    return ", ".join(dict.fromkeys(found))


def _number(value: JsonValue) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
