"""What is JSON to us: what the standard has, and what can be written again."""

from __future__ import annotations

import pytest

from services.job.strict_json import as_object, parse


def test_values_are_read() -> None:
    assert parse('{"a": [1, -2.5e3, "\\u00e4\\ud83d\\ude00", null, true]}') == {"a": [1, -2500.0, "ä😀", None, True]}


@pytest.mark.parametrize("text", ["NaN", '{"a": Infinity}', "[-Infinity]", '"\\ud800"', '{"\\udfff": 1}', "{", ""])
def test_what_only_python_takes_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_depth_is_bounded() -> None:
    with pytest.raises(RecursionError):
        parse("[" * 100_000 + "]" * 100_000)


def test_as_object_passes_an_object_on_and_refuses_anything_else() -> None:
    assert as_object({"name": "x"}) == {"name": "x"}
    for other in (["name"], "name", None, 1):
        with pytest.raises(TypeError, match="expected a JSON object"):
            as_object(other)
