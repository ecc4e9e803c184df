"""Dataset files: JSON lines of `{"messages": [...], "<any field>": ...}`, one prompt a line.

`messages` is the prompt and ends with the user's turn; every other field of the row is the grader's `item`. Invariants:
row n is line n (0-based) of the file, so a row's number names a line; any fault raises `DatasetError` with file, line
and field; a yielded row needs no further check.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from services.job import strict_json
from services.job.graders import Grader, TemplateError, item_placeholders
from services.job.strict_json import JsonObject

MAX_LINE_BYTES = 4 * 2**20
ROLES = ("system", "developer", "user", "assistant")
MESSAGE_FIELDS = frozenset({"role", "content", "name"})


class DatasetError(ValueError):
    """A dataset that can't be used. `line` is 1-based, or None for the file as a whole; `param` names the request's
    field that brought the file."""

    def __init__(self, file_id: str, line: int | None, message: str, param: str) -> None:
        where = f"{file_id}, line {line}" if line else file_id
        super().__init__(f"{where}: {message}")
        self.file_id = file_id
        self.line = line
        self.message = message
        self.param = param


@dataclass(frozen=True)
class Row:
    """One prompt. `number` is its 0-based line; each message is {"role", "content": text} and maybe "name"."""

    number: int
    messages: tuple[dict[str, str], ...]
    item: JsonObject


class _BadRow(ValueError):
    """The fault of a line; `iter_rows` adds file and line."""


def iter_rows(path: Path, file_id: str, *, grader: Grader | None = None, param: str = "training_file") -> Iterator[Row]:
    """The rows of a file in order. With a grader, also checks that each item has what its templates name.

    Raises DatasetError at the first bad line, and for a file without rows.
    """
    placeholders = item_placeholders(grader) if grader else ()
    number = -1
    with open(path, "rb") as file:
        for number, line in enumerate(_lines(file)):
            try:
                row = _parse_row(number, line)
                for placeholder in placeholders:
                    placeholder.look_up(row.item)
            except (_BadRow, TemplateError) as error:
                raise DatasetError(file_id, number + 1, str(error), param) from error
            yield row
    if number < 0:
        raise DatasetError(file_id, None, "the file has no rows", param)


def count_rows(path: Path) -> int:
    """How many lines a file has, without looking inside them."""
    with open(path, "rb") as file:
        return sum(1 for _ in _lines(file))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines without their end; blank ones at the end of the file do not count. A line longer than allowed is cut one
    byte above the limit, which the parser refuses."""
    blank = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        if not line.strip():
            blank += 1
            continue
        yield from [b""] * blank
        blank = 0
        yield line.rstrip(b"\r\n") if len(line) <= MAX_LINE_BYTES else line


def _parse_row(number: int, line: bytes) -> Row:
    if not line:
        raise _BadRow("blank line")
    if len(line) > MAX_LINE_BYTES:
        raise _BadRow(f"the line is longer than {MAX_LINE_BYTES} bytes")
    fields = _parse_object(line)
    messages = fields.pop("messages", None)
    if not isinstance(messages, list) or not messages:
        raise _BadRow("messages: expected a list with at least one message")
    prompt = tuple(_parse_message(f"messages[{index}]", message) for index, message in enumerate(messages))
    if prompt[-1]["role"] != "user":
        raise _BadRow(
            f"messages[{len(prompt) - 1}].role: the last message must be the user's, not {prompt[-1]['role']!r}"
        )
    return Row(number, prompt, fields)


def _parse_object(line: bytes) -> JsonObject:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _BadRow(f"not UTF-8 at byte {error.start}") from error
    try:
        value = strict_json.parse(text)
    except (ValueError, RecursionError) as error:
        raise _BadRow(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _BadRow(f"expected a JSON object, not {type(value).__name__}")
    return value


def _parse_message(where: str, message: object) -> dict[str, str]:
    if not isinstance(message, dict):
        raise _BadRow(f"{where}: expected an object")
    unknown = sorted(message.keys() - MESSAGE_FIELDS)
    if unknown:
        raise _BadRow(f"{where}.{unknown[0]}: not supported; a message has role, content and maybe name")
    role = message.get("role")
    if role not in ROLES:
        raise _BadRow(f"{where}.role: expected one of {', '.join(ROLES)}, not {role!r}")
    parsed = {"role": role, "content": _parse_content(f"{where}.content", message.get("content"))}
    if "name" in message:
        if not isinstance(message["name"], str):
            raise _BadRow(f"{where}.name: expected text")
        parsed["name"] = message["name"]
    return parsed


def _parse_content(where: str, content: object) -> str:
    """Text, or a list of {"type": "text", "text": ...} parts, which are joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise _BadRow(f"{where}: expected text or a list of text parts")
    for index, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise _BadRow(f'{where}[{index}]: expected {{"type": "text", "text": ...}}; only text is supported')
    return "".join(part["text"] for part in content)
