"""Grader blocks and their templates, without running any."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.job.graders import (
    GraderError,
    RegexMatchGrader,
    StringCheckGrader,
    TemplateError,
    item_placeholders,
    parse_grader,
    render,
)

STRING_CHECK = {
    "type": "string_check",
    "name": "exact",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "operation": "eq",
}
REGEX_MATCH = {
    "type": "regex_match",
    "name": "last number",
    "input": "{{sample.output_text}}",
    "pattern": r"(-?\d+)",
    "reference": "{{item.answer}}",
}

SLOW_TO_COMPILE = "(?i)" + "[\x01-\U0010fffe]" * 800
"""Valid, and takes about ten seconds."""


def test_known_graders_parse() -> None:
    assert isinstance(parse_grader(STRING_CHECK), StringCheckGrader)
    grader = parse_grader(REGEX_MATCH)
    assert isinstance(grader, RegexMatchGrader)
    assert parse_grader({**REGEX_MATCH, "reference": None}) == grader.model_copy(update={"reference": None})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": "python"}, "type"),
        ({"type": "multi"}, "type"),
        ({"type": "no_such"}, "type"),
        ({"type": None}, "type"),
        ({"type": ["string_check"]}, "type"),
        ({"name": ""}, "name"),
        ({"operation": "contains"}, "operation"),
        ({"input": 3}, "input"),
        ({"input": "{{ model.output }}"}, "input"),
        ({"reference": "{{ item }}"}, "reference"),
        ({"reference": "{{ item.answer"}, "reference"),
        ({"input": "{{ sample.output_json.x }}"}, "input"),
        ({"input": "{{ sample.output_text.x }}"}, "input"),
        ({"input": "{{ item.a | upper }}"}, "input"),
        ({"input": "{{ item.__class__() }}"}, "input"),
        ({"range": [0, 1]}, "range"),
    ],
)
def test_a_refused_grader_names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(GraderError) as refused:
        parse_grader({**STRING_CHECK, **change})
    assert refused.value.field == field
    assert refused.value.message


@pytest.mark.parametrize("pattern", ["", 3, "x" * 5000])
def test_a_pattern_is_text_of_some_length(pattern: Any) -> None:
    with pytest.raises(GraderError) as refused:
        parse_grader({**REGEX_MATCH, "pattern": pattern})
    assert refused.value.field == "pattern"


@pytest.mark.parametrize(
    "template", ["{" * 65_536, "{{" * 32_768, "{{ item.a }}" * 5_000, "{{" + "a" * 60_000 + "}}"], ids=range(4)
)
def test_whatever_a_template_is_it_is_refused_at_once(template: str) -> None:
    started = time.perf_counter()
    with pytest.raises(GraderError) as refused:
        parse_grader({**STRING_CHECK, "input": template})
    assert time.perf_counter() - started < 0.5 and refused.value.field == "input"
    assert len(refused.value.message) < 1_000


def test_parsing_never_compiles_a_pattern() -> None:
    started = time.perf_counter()
    parse_grader({**REGEX_MATCH, "pattern": SLOW_TO_COMPILE})
    assert time.perf_counter() - started < 0.5


def test_a_missing_field_is_named() -> None:
    with pytest.raises(GraderError) as refused:
        parse_grader({"type": "string_check", "name": "exact"})
    assert refused.value.field == "input"


@pytest.mark.parametrize("known", ["text_similarity", "python", "score_model", "multi", "label_model"])
def test_other_openai_types_are_not_supported_yet(known: str) -> None:
    with pytest.raises(GraderError, match="not supported yet"):
        parse_grader({"type": known})


ITEM = {"answer": "42", "n": 7, "deep": {"list": [{"x": "y"}, [1, 2]]}, "half": 0.5, "yes": True, "null": None}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{{ sample.output_text }}", "out"),
        ("<{{item.answer}}|{{ item.n }}>", "<42|7>"),
        ("{{ item.deep.list[0].x }}", "y"),
        ("{{ item.deep.list[1] }}", "[1, 2]"),
        ("{{ item.half }} {{ item.yes }}", "0.5 true"),
        ("}} { item.answer }", "}} { item.answer }"),
    ],
)
def test_templates_render(template: str, expected: str) -> None:
    assert render(template, {"output_text": "out"}, ITEM) == expected


@pytest.mark.parametrize(
    "path", ["item.other", "item.null", "item.deep.list[2]", "item.deep.list.x", "item.answer.x", "item.deep[0]"]
)
def test_what_an_item_lacks_is_an_error_and_not_empty(path: str) -> None:
    with pytest.raises(TemplateError, match="missing or null"):
        render(f"{{{{ {path} }}}}", {"output_text": "out"}, ITEM)


def test_placeholders_of_the_item_are_listed_once() -> None:
    grader = parse_grader({**STRING_CHECK, "input": "{{ item.a }} {{ sample.output_text }} {{ item.a }}"})
    assert [str(placeholder) for placeholder in item_placeholders(grader)] == ["item.a", "item.answer"]


@given(st.text())
def test_inserted_text_is_never_read_as_a_template(text: str) -> None:
    assert render("{{ sample.output_text }}", {"output_text": text}, {}) == text
