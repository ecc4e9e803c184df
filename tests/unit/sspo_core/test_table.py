"""The table in docs/objectives.md is the code's."""

from __future__ import annotations

from pathlib import Path

import pytest

from sspo_core.config import OBJECTIVES
from sspo_core.table import BEGIN, END, HEADINGS, main, render, written_into

DOCUMENT = Path(__file__).parents[3] / "docs" / "objectives.md"


def test_the_document_is_current() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert written_into(text) == text, "run: python -m sspo_core.table docs/objectives.md"


def test_every_objective_has_a_row_without_a_hole() -> None:
    rows = [line.strip("| ").split(" | ") for line in render().splitlines()]
    assert rows[0] == list(HEADINGS)
    assert [row[0] for row in rows[2:]] == [f"`{name}`" for name in OBJECTIVES]
    for row in render().splitlines()[2:]:
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        assert len(cells) == len(HEADINGS)
        assert all(cell for cell, heading in zip(cells, HEADINGS, strict=True) if heading not in ("needs", "defaults"))


def test_the_table_shows_a_default_that_changes_the_objective() -> None:
    grpo, dr_grpo = (line for line in render().splitlines() if line.startswith(("| `grpo`", "| `dr_grpo`")))
    assert "norm_tokens 3000" in dr_grpo and "norm_tokens" not in grpo


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0 and capsys.readouterr().out == render()
    path = tmp_path / "objectives.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    assert main([str(path)]) == 0
    assert path.read_text(encoding="utf-8") == f"before\n{BEGIN}\n\n{render()}\n{END}\nafter\n"
    assert main(["a", "b"]) == 2 and "sspo_core.table" in capsys.readouterr().err


def test_a_document_without_marks_is_refused() -> None:
    for text in ("", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"):
        with pytest.raises(ValueError, match=r"^text:"):
            written_into(text)
