"""Rows and a model for jobs whose prompts are issued: a stand-in for the tokenizer makes a prompt of a row's number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.controller.issuing import dispatcher
from services.disk.layout import Layout
from services.job.datasets import Row


class NumberEncoder:
    """Stands where a tokenizer would."""

    stop_token_ids = (2,)

    def __init__(self, *_: Any) -> None:
        pass

    def encode(self, row: Row) -> list[int]:
        return [row.number]


@pytest.fixture
def rows() -> list[Row]:
    """What both data sets hold."""
    return [Row(number, ({"role": "user", "content": str(number)},), {"n": number}) for number in range(7)]


@pytest.fixture
def model_and_rows(rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model `tiny`, without weights, and the rows as every data set."""
    monkeypatch.setattr(dispatcher, "PromptEncoder", NumberEncoder)
    monkeypatch.setattr(dispatcher, "iter_rows", lambda *_: iter(rows))
    model = Layout(tmp_path).models / "tiny"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
