"""Results of a job that succeeded: a registered model and a table of its steps."""

from __future__ import annotations

import csv
import io
import os
import shutil
from dataclasses import dataclass

from services.disk.files import make_folder, replace_folder
from services.disk.layout import Layout
from services.records.figure import Figure, path_of
from services.store.client import Client
from services.store.files import Files
from services.store.job.record import JobRecord
from services.store.job.steps import Steps

COLUMNS: tuple[Figure, ...] = (
    lambda s: s.step,
    lambda s: s.reward_mean,
    lambda s: s.loss,
    lambda s: s.grad_norm,
    lambda s: s.tokens,
    lambda s: s.staleness_mean,
    lambda s: s.seconds,
    lambda s: s.wait_seconds,
)


@dataclass(frozen=True)
class Results:
    """The registered model's name, and the ids of the result files."""

    model: str
    files: list[str]


def register_results(client: Client, layout: Layout, record: JobRecord) -> Results:
    """Register the exported folder as a model and store `step_metrics.csv`. Repeating it replaces the model.

    The model's files are links to the exported ones: copying a large model would outlast the controller's lease.
    """
    name = record.model_name
    target = layout.models / name
    make_folder(target.parent)
    staging = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(layout.job(record.id).export, staging, copy_function=_link)
    replace_folder(staging, target)
    if record.result_files:
        return Results(name, record.result_files)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(path_of(figure) for figure in COLUMNS)
    writer.writerows([figure(step) for figure in COLUMNS] for step in Steps(client, layout).each(record.id))
    stored = Files(client, layout).create("step_metrics.csv", "fine-tune-results", [table.getvalue().encode()])
    return Results(name, [stored.id])


def _link(source: str, target: str) -> None:
    """A second name for a file; a copy where the file system has none to give."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
