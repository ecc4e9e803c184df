"""Dataset files: what is accepted, and how what is not is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.job.datasets import MAX_LINE_BYTES, DatasetError, count_rows, iter_rows
from services.job.graders import parse_grader

GOOD = {"messages": [{"role": "user", "content": "2+2?"}], "answer": "4"}
GRADER = parse_grader(
    {
        "type": "string_check",
        "name": "exact",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "operation": "eq",
    }
)


def write(folder: Path, *lines: Any) -> Path:
    path = folder / "data.jsonl"
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"".join(line + b"\n" for line in encoded))
    return path


def with_messages(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages), "answer": "4"}


def test_rows_carry_number_messages_and_item(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    system = {"role": "system", "content": "Be brief."}
    path = write(tmp_path, GOOD, with_messages(system, {"role": "user", "content": parts, "name": "kim"}))
    first, second = iter_rows(path, "file-1", grader=GRADER)
    assert (first.number, first.messages, first.item) == (0, ({"role": "user", "content": "2+2?"},), {"answer": "4"})
    assert second.number == 1
    assert second.messages == (system, {"role": "user", "content": "ab", "name": "kim"})


def test_line_ends_and_blank_lines_at_the_end_do_not_matter(tmp_path: Path) -> None:
    row = json.dumps(GOOD).encode()
    path = tmp_path / "data.jsonl"
    path.write_bytes(row + b"\r\n" + row + b"\n\n  \n")
    assert len(list(iter_rows(path, "file-1"))) == count_rows(path) == 2
    path.write_bytes(row + b"\n" + row)
    assert len(list(iter_rows(path, "file-1"))) == count_rows(path) == 2


USER = {"role": "user", "content": "x"}
BAD_LINES = {
    "cut json": (b'{"messages": [', "not JSON"),
    "nan": (b'{"messages": [{"role": "user", "content": "x"}], "answer": NaN}', "NaN"),
    "not utf-8": (b'{"messages": "\xff"}', "not UTF-8 at byte 14"),
    "lone surrogate": (b'{"messages": [{"role": "user", "content": "\\ud800"}], "answer": "4"}', "surrogates"),
    "deep": (b"[" * 100_000, "not JSON"),
    "array": ([1, 2], "expected a JSON object, not list"),
    "blank": (b"  ", "blank line"),
    "too long": (b" " * MAX_LINE_BYTES + b"{}", "longer than"),
    "no messages": ({"answer": "4"}, "messages"),
    "empty messages": (with_messages(), "messages"),
    "messages no list": ({"messages": "hi"}, "messages"),
    "message no object": (with_messages("hi"), "messages[0]"),
    "unknown role": (with_messages({"role": "robot", "content": "x"}), "messages[0].role"),
    "no role": (with_messages({"content": "x"}), "messages[0].role"),
    "role no text": (with_messages({"role": ["user"], "content": "x"}), "messages[0].role"),
    "content number": (with_messages(USER, {"role": "user", "content": 3}), "messages[1].content"),
    "content null": (with_messages({"role": "user", "content": None}), "messages[0].content"),
    "image": (with_messages({"role": "user", "content": [{"type": "image_url"}]}), "messages[0].content[0]"),
    "name number": (with_messages({**USER, "name": 3}), "messages[0].name"),
    "tool call": (with_messages({**USER, "tool_calls": []}), "messages[0].tool_calls"),
    "last not user": (with_messages(USER, {"role": "assistant", "content": "y"}), "messages[1].role"),
    "item lacks field": ({"messages": [USER]}, "item.answer is missing"),
}


@pytest.mark.parametrize(("line", "message"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_a_bad_line_is_named(tmp_path: Path, line: Any, message: str) -> None:
    path = write(tmp_path, GOOD, line, GOOD)
    with pytest.raises(DatasetError) as refused:
        list(iter_rows(path, "file-7", grader=GRADER, param="validation_file"))
    error = refused.value
    assert (error.file_id, error.line, error.param) == ("file-7", 2, "validation_file")
    assert message in error.message
    assert str(error).startswith("file-7, line 2: ")


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="no rows") as refused:
        list(iter_rows(path, "file-1"))
    assert refused.value.line is None
    assert count_rows(path) == 0


def test_without_a_grader_items_may_hold_anything(tmp_path: Path) -> None:
    assert len(list(iter_rows(write(tmp_path, {"messages": [USER], "x": [1, {"y": None}]}), "file-1"))) == 1
