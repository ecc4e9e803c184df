"""Graders as data: their fields and the templates inside. Reward workers execute them.

Invariants: a grader that `parse_grader` accepts has known fields only and templates that name known namespaces only.
Parsing takes time linear in the text, whatever a stranger sends. Patterns are compiled by the grader process alone,
which can be killed: a pattern of 4,000 characters can take a quarter of a minute. `render` never guesses: a field that
the dataset row lacks, or that is null, is an error and never an empty string, because an empty reference would silently
become a reward.

Templates are text with `{{ sample.output_text }}` (the completion) and `{{ item.PATH }}` (the dataset row's extra
fields; PATH is names and list indices: `item.answers[0].text`). Strings are inserted as they are, other values as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, TypeAdapter, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from services.job.base import StrictModel
from services.job.strict_json import JsonObject

MAX_TEMPLATE_CHARACTERS = 65_536
MAX_PLACEHOLDERS = 256
MAX_EXPRESSION_CHARACTERS = 512
MAX_PATTERN_CHARACTERS = 4_096
SUPPORTED_TYPES = ("string_check", "regex_match")
UNSUPPORTED_TYPES = ("text_similarity", "python", "score_model", "multi", "label_model")
"""Types of the OpenAI API that we know of and do not run yet."""
SAMPLE_FIELDS = ("output_text",)

_EXPRESSION = re.compile(r"(?P<namespace>\w+)(?P<path>(?:\.[\w-]+|\[\d+\])+)")
_STEP = re.compile(r"\.([\w-]+)|\[(\d+)\]")


class TemplateError(ValueError):
    """A template that can't be parsed, or that the sample and item at hand can't fill."""


class GraderError(ValueError):
    """A grader that is refused. `field` is the dotted path inside the grader ("" for the grader as a whole)."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


@dataclass(frozen=True)
class Placeholder:
    """One `{{ namespace.path }}` of a template."""

    namespace: str
    path: tuple[str | int, ...]

    def __str__(self) -> str:
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return self.namespace + "".join(steps)

    def look_up(self, values: Mapping[str, object]) -> str:
        """The value as text. Raises TemplateError when it is missing or null."""
        value: Any = values
        for step in self.path:
            try:
                value = value[step] if isinstance(step, int) == isinstance(value, list) else None
            except (KeyError, IndexError, TypeError):
                value = None
            if value is None:
                raise TemplateError(f"{self} is missing or null")
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@lru_cache(maxsize=1024)
def parse_template(template: str) -> tuple[str | Placeholder, ...]:
    """The literal parts and placeholders of a template, in order. Raises TemplateError."""
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise TemplateError(f"a template has at most {MAX_TEMPLATE_CHARACTERS} characters, not {len(template)}")
    parts: list[str | Placeholder] = []
    at = 0
    while (start := template.find("{{", at)) >= 0:
        end = template.find("}}", start + 2)
        if end < 0:
            raise TemplateError("'{{' without its '}}'")
        if len(parts) >= 2 * MAX_PLACEHOLDERS:
            raise TemplateError(f"a template has at most {MAX_PLACEHOLDERS} placeholders")
        parts += [template[at:start], _parse_expression(template[start + 2 : end].strip())]
        at = end + 2
    return tuple(part for part in (*parts, template[at:]) if part != "")


def _parse_expression(text: str) -> Placeholder:
    if len(text) > MAX_EXPRESSION_CHARACTERS:
        raise TemplateError(f"a placeholder has at most {MAX_EXPRESSION_CHARACTERS} characters, not {len(text)}")
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise TemplateError(f"{{{{ {text} }}}}: expected sample.output_text or item.FIELD")
    namespace, path = match["namespace"], match["path"]
    steps = tuple(name or int(index) for name, index in _STEP.findall(path))
    if namespace == "sample":
        if len(steps) != 1 or steps[0] not in SAMPLE_FIELDS:
            raise TemplateError(f"{{{{ {text} }}}}: of the sample only output_text is available")
    elif namespace != "item":
        raise TemplateError(f"{{{{ {text} }}}}: unknown namespace {namespace!r}; known: sample, item")
    return Placeholder(namespace, steps)


def render(template: str, sample: Mapping[str, object], item: Mapping[str, object]) -> str:
    """The template filled from `sample` ({"output_text": ...}) and `item`. Raises TemplateError naming the field."""
    values = {"sample": sample, "item": item}
    parts = parse_template(template)
    return "".join(part if isinstance(part, str) else part.look_up(values[part.namespace]) for part in parts)


def _check_template(template: str) -> str:
    parse_template(template)
    return template


Template = Annotated[str, AfterValidator(_check_template)]
Pattern = Annotated[str, Field(min_length=1, max_length=MAX_PATTERN_CHARACTERS)]


class _GraderBase(StrictModel):
    name: str = Field(min_length=1, max_length=128)
    """The grader's name in logs and answers."""


class StringCheckGrader(_GraderBase):
    """Reward 1.0 when `input` compares to `reference` as `operation` says, else 0.0.

    `eq` and `ne` compare whole strings, `like` asks whether `reference` occurs in `input`, `ilike` the same without
    regard to case.
    """

    type: Literal["string_check"]
    """Compares two texts."""
    input: Template
    """Template of the text that is judged, as a rule `{{ sample.output_text }}`."""
    reference: Template
    """Template of the text that it is compared with, as a rule a field of the row: `{{ item.answer }}`."""
    operation: Literal["eq", "ne", "like", "ilike"]
    """How they are compared: equal, not equal, `reference` occurs in `input`, or occurs in upper or lower case."""

    @property
    def templates(self) -> tuple[str, ...]:
        return (self.input, self.reference)


class RegexMatchGrader(_GraderBase):
    """Reward 1.0 when `pattern`, a regular expression of Python, is found in `input` and, with a `reference`, the last
    match equals it.

    What is compared is the match's first group, or the whole match of a pattern without groups.
    """

    type: Literal["regex_match"]
    """Looks for a pattern, and compares what it finds."""
    input: Template
    """Template of the text that is searched, as a rule `{{ sample.output_text }}`."""
    pattern: Pattern
    """Regular expression of Python, searched for anywhere. Put what is to be compared into its first group."""
    reference: Template | None = None
    """Template of the text that the last match must equal. null: it is enough that the pattern is found."""

    @property
    def templates(self) -> tuple[str, ...]:
        return (self.input,) if self.reference is None else (self.input, self.reference)


Grader = StringCheckGrader | RegexMatchGrader

_GRADER: TypeAdapter[Grader] = TypeAdapter(Annotated[Grader, Field(discriminator="type")])


class GraderSchema:
    """Annotates a grader that `parse_grader` reads later: shows the graders in the JSON schema."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(_GRADER.core_schema)


GraderBlock = Annotated[JsonObject, GraderSchema]
"""A grader as a request gives it."""


def parse_grader(block: Mapping[str, object]) -> Grader:
    """The typed grader for a request's JSON object. Raises GraderError naming the field inside it."""
    kind = block.get("type")
    if kind in UNSUPPORTED_TYPES:
        raise GraderError("type", f"grader type {kind!r} is not supported yet; supported: {', '.join(SUPPORTED_TYPES)}")
    if kind not in SUPPORTED_TYPES:
        raise GraderError("type", f"unknown grader type {kind!r}; supported: {', '.join(SUPPORTED_TYPES)}")
    try:
        return _GRADER.validate_python(dict(block))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"][1:])  # the first part is the discriminator's value
        raise GraderError(field, first["msg"].removeprefix("Value error, ")) from error


def item_placeholders(grader: Grader) -> tuple[Placeholder, ...]:
    """Every `{{ item.* }}` that the grader's templates name: what each dataset row must have."""
    parts = (part for template in grader.templates for part in parse_template(template))
    return tuple(dict.fromkeys(part for part in parts if isinstance(part, Placeholder) and part.namespace == "item"))
