"""What is known wrong with a job before anything of it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.controller import validation as validation_module
from services.controller.validation import InvalidFile, InvalidGrader, validate_files
from services.disk.layout import Layout
from services.job.datasets import Row
from tests.support.tiny import job_spec

REGEX = {"type": "regex_match", "name": "g", "input": "{{ sample.output_text }}"}


@pytest.mark.parametrize("pattern", ["(", "(?i)" + "[\x01-\U0010fffe]" * 800], ids=["wrong", "endless"])
def test_a_pattern_that_does_not_compile_in_time_fails_the_job(tmp_path: Path, pattern: str) -> None:
    spec = job_spec()
    changes: dict[str, Any] = {
        "grader": {**REGEX, "pattern": pattern},
        "reward": spec.reward.model_copy(update={"timeout_seconds": 1.0}),
    }
    with pytest.raises(InvalidGrader) as refused:
        validate_files(spec.model_copy(update=changes), Layout(tmp_path))
    assert refused.value.param == "method.reinforcement.grader.pattern" and refused.value.code == "invalid_grader"


class Encoder:
    """Stands where a tokenizer would; a prompt of "long" is too long."""

    def __init__(self, *_: Any) -> None:
        pass

    def encode(self, row: Row) -> list[int]:
        if row.messages[0]["content"] == "long":
            raise ValueError("messages: the prompt is too long")
        return [1]


def line(content: str, **fields: Any) -> str:
    return json.dumps({"messages": [{"role": "user", "content": content}], **fields})


@pytest.mark.parametrize(
    ("training", "validation", "param", "words"),
    [
        ([line("a"), line("long")], [line("a")], "training_file", r"file-1, line 2: messages: the prompt is too long"),
        ([line("a")], [line("a"), line("a"), line("long")], "validation_file", r"file-2, line 3: messages"),
        ([line("a"), "no json"], [line("a")], "training_file", r"file-1, line 2"),
        ([line("a")], None, "validation_file", r"file-2: No such file"),
        ([line("a")], [line("a")], None, ""),
    ],
)
def test_every_line_of_both_files_is_looked_at(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    training: list[str],
    validation: list[str] | None,
    param: str | None,
    words: str,
) -> None:
    monkeypatch.setattr(validation_module, "PromptEncoder", Encoder)
    monkeypatch.setattr(validation_module, "_check_grader", lambda spec: None)
    layout = Layout(tmp_path)
    model = layout.models / "tiny"
    for folder in (layout.files, model):
        folder.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    for file_id, lines in (("file-1", training), ("file-2", validation)):
        if lines is not None:
            (layout.files / file_id).write_text("\n".join(lines) + "\n")
    spec = job_spec().model_copy(update={"validation_file": "file-2"})
    if param is None:
        validate_files(spec, layout)
        return
    with pytest.raises(InvalidFile, match=words) as refused:
        validate_files(spec, layout)
    assert (refused.value.param, refused.value.code) == (param, "invalid_file")
