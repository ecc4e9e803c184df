from __future__ import annotations

from typing import Any

import pytest

from services.job.graders import TemplateError, parse_grader
from services.reward.graders import GraderResult, grade


def string_check(operation: str, reference: str = "{{item.answer}}") -> dict[str, Any]:
    text = "{{sample.output_text}}"
    return {"type": "string_check", "name": "g", "input": text, "reference": reference, "operation": operation}


def regex_match(pattern: str, reference: str | None = None) -> dict[str, Any]:
    block = {"type": "regex_match", "name": "g", "input": "{{sample.output_text}}", "pattern": pattern}
    return block if reference is None else {**block, "reference": reference}


def reward(block: dict[str, Any], text: str, **item: Any) -> float:
    return grade(parse_grader(block), {"output_text": text}, item).value


@pytest.mark.parametrize(
    ("operation", "text", "answer", "expected"),
    [
        ("eq", "42", "42", 1.0),
        ("eq", "42 ", "42", 0.0),
        ("ne", "42 ", "42", 1.0),
        ("ne", "42", "42", 0.0),
        ("like", "the answer is 42.", "42", 1.0),
        ("like", "42", "the answer is 42.", 0.0),
        ("like", "Paris", "paris", 0.0),
        ("ilike", "in PARIS, of course", "paris", 1.0),
        ("ilike", "STRASSE", "straße", 1.0),
        ("ilike", "London", "paris", 0.0),
    ],
)
def test_string_check_compares_as_the_operation_says(operation: str, text: str, answer: str, expected: float) -> None:
    assert reward(string_check(operation), text, answer=answer) == expected


def test_a_number_in_the_row_is_compared_as_its_json() -> None:
    assert reward(string_check("eq"), "4", answer=4) == 1.0


@pytest.mark.parametrize("value", [{}, {"answer": None}])
def test_a_missing_or_null_reference_is_an_error_and_never_an_empty_string(value: dict[str, Any]) -> None:
    with pytest.raises(TemplateError, match=r"item\.answer"):
        reward(string_check("like"), "anything", **value)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [(r"\d+", "about 42", 1.0), (r"^\d+$", "about 42", 0.0), (r"(?i)yes", "Yes!", 1.0), (r"b\nc", "a b\nc", 1.0)],
)
def test_a_pattern_without_a_reference_only_has_to_be_found(pattern: str, text: str, expected: float) -> None:
    assert reward(regex_match(pattern), text) == expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"#### (\d+)", "first #### 1, no: #### 42", 1.0),  # the last match counts
        (r"#### (\d+)", "#### 42, no: #### 1", 0.0),
        (r"\d+", "1 or 42", 1.0),  # without a group the whole match is compared
        (r"#### (\d+)", "no marker: 42", 0.0),
        (r"(\d+)|x", "42 x", 0.0),  # the last match has no first group
    ],
)
def test_with_a_reference_the_last_match_must_equal_it(pattern: str, text: str, expected: float) -> None:
    assert reward(regex_match(pattern, "{{item.answer}}"), text, answer="42") == expected


def test_a_plain_grader_has_no_components() -> None:
    assert grade(parse_grader(string_check("eq", "a")), {"output_text": "a"}, {}) == GraderResult(1.0, {})
