"""What a job that succeeded leaves for its owner: a registered model and a table of its steps."""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import dataclass

from services.files import make_folder, replace_folder
from services.layout import Layout
from services.store.client import Client
from services.store.files import Files
from services.store.jobs import JobRecord, Jobs
from services.store.steps import Steps
from services.store.transitions import Status

COLUMNS = ("step", "reward_mean", "loss", "grad_norm", "tokens", "staleness_mean", "seconds", "wait_seconds")


@dataclass(frozen=True)
class Results:
    """The registered model's name, and the ids of the result files."""

    model: str
    files: list[str]


def register_results(client: Client, layout: Layout, record: JobRecord) -> Results | None:
    """Register the exported folder as a model and store `step_metrics.csv`. Repeating it replaces the model.

    None, and no model, for a job that was paused or cancelled while its model was copied.
    """
    name = record.model_name
    target = layout.models / name
    make_folder(target.parent)
    staging = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(layout.job(record.id).export, staging)
    if Jobs(client).get(record.id).status is not Status.RUNNING:
        shutil.rmtree(staging)
        return None
    replace_folder(staging, target)
    if record.result_files:
        return Results(name, record.result_files)
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(Steps(client, layout).each(record.id))
    stored = Files(client, layout).create("step_metrics.csv", "fine-tune-results", [table.getvalue().encode()])
    return Results(name, [stored.id])
