"""Lines of the version before typed records (commit 489e475, a job on the tiny model): read whole, said again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.api.ui.series import FIGURES
from services.observability.metrics import METRICS
from services.records.figure import path_of
from services.records.record import numbers
from services.records.samples import GateCurve, SampledGroup
from services.records.step import StepRecord

WRITTEN = Path(__file__).parent / "before_types"
LINES = (WRITTEN / "steps.jsonl").read_text().splitlines()


def at(record: dict[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = record
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def test_a_step_is_read_whole_and_said_again_as_it_was() -> None:
    for line in LINES:
        record = StepRecord.model_validate_json(line)
        assert json.loads(record.to_json()) == json.loads(line)
        assert line.startswith('{"step":') and record.to_json().startswith(f'{{"step":{record.step},')


def test_every_series_reads_what_lies_at_the_path_it_names() -> None:
    figures = [*FIGURES.values(), *(metric.figure for metric in METRICS if metric.figure is not None)]
    for line in LINES:
        record, plain = StepRecord.model_validate_json(line), json.loads(line)
        for figure in figures:
            value, there = figure(record), at(plain, path_of(figure))
            if isinstance(value, tuple):
                assert list(value) == there, path_of(figure)
            elif isinstance(there, dict):
                assert json.loads(json.dumps({k: v.plain() for k, v in value.items()})) == there  # type: ignore[union-attr]
            else:
                assert value == there, path_of(figure)


def test_numbers_by_path_are_those_of_the_line() -> None:
    for line in LINES:
        plain = json.loads(line)
        found = dict(numbers(StepRecord.model_validate_json(line)))
        assert len(found) > 100 and "replayed" not in found and "drift.histograms.ratio_histogram" not in found
        for path, value in found.items():
            if "drift.buckets." not in path:
                assert value == at(plain, path), path
        for bucket, figures in plain["drift"]["buckets"].items():
            assert figures == {name: found[f"drift.buckets.{bucket}.{name}"] for name in figures}


def test_samples_and_the_gate_too() -> None:
    sample, gate = (WRITTEN / "samples.jsonl").read_text(), (WRITTEN / "gate.json").read_text()
    assert json.loads(SampledGroup.model_validate_json(sample).to_json()) == json.loads(sample)
    assert json.loads(GateCurve.model_validate_json(gate).to_json()) == json.loads(gate)
