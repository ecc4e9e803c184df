"""Writes all that the demo's job needs: the starter model, its data, and the job file.

DIR/models/sspo-demo/            the model with its tokenizer, a plain Hugging Face folder
DIR/demo/train.jsonl             questions to train on
DIR/demo/validation.jsonl        held-out questions
DIR/demo/job.yaml                the create body of the REST API; file names relative to it
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.demo.sums import split, write_rows
from services.disk.layout import Layout
from services.job.strict_json import JsonObject

MODEL = "sspo-demo"
STEPS = 260


class NotPrepared(RuntimeError):
    """The starter model could not be made."""


@dataclass(frozen=True)
class Prepared:
    """Paths of the prepared files. `models` is the folder of registered models."""

    model: Path
    models: Path
    validation_file: Path
    job_file: Path


def prepare(data: Path, seed: int, steps: int | None) -> Prepared:
    """Make and write everything; what an earlier demo left is replaced. Raises NotPrepared."""
    layout = Layout(data.resolve())
    folder = layout.root / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    questions = split(seed)
    write_rows(folder / "train.jsonl", questions.train)
    write_rows(folder / "validation.jsonl", questions.validation[:512])
    model = layout.models / MODEL
    _write_model(model, seed)
    job_file = folder / "job.yaml"
    job_file.write_text(yaml.safe_dump(job_body(seed, steps or STEPS), sort_keys=False))
    return Prepared(model, layout.models, folder / "validation.jsonl", job_file)


def job_body(seed: int, steps: int) -> JsonObject:
    """The demo's job, as the create body of the API."""
    grader = {
        "type": "string_check",
        "name": "exact",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "operation": "eq",
    }
    return {
        "model": MODEL,
        "training_file": "train.jsonl",
        "validation_file": "validation.jsonl",
        "seed": seed,
        "suffix": "demo",
        "method": {
            "type": "reinforcement",
            "reinforcement": {"grader": grader, "hyperparameters": {"eval_interval": 25, "eval_samples": 128}},
        },
        "x_sspo": {
            "objective": {
                "name": "sspo",
                "gate": "logarctan_a",
                "sides": "outward",
                "tau_pos": 3.0,
                "tau_neg": 3.5,
            },
            "rollout": {"workers": 1, "group_size": 8, "temperature": 1.0, "max_tokens": 4, "concurrent_groups": 32},
            "learner": {
                "steps": steps,
                "batch_size": 64,
                "updates_per_step": 1,
                "learning_rate": 4e-4,
                "warmup_steps": 10,
                "max_staleness": 1,
                "checkpoint_every": 25,
                "synchronous": False,
            },
            "reward": {"workers": 1, "timeout_seconds": 10.0},
        },
    }


def _write_model(folder: Path, seed: int) -> None:
    """Pre-train and write, whole or not at all."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    from services.cli.demo.starter import CONTEXT_TOKENS, TARGET, StarterNotReached, build_model, pretrain
    from services.cli.demo.tokenizer import build_tokenizer

    disable_progress_bar()  # our own bar is the one to see
    tokenizer = build_tokenizer(CONTEXT_TOKENS)
    torch.set_num_threads(1)  # a model this small gains nothing from more, and loses much on a busy machine
    model = build_model(tokenizer, seed)
    columns = (TextColumn("{task.description:<44}"), BarColumn(), TextColumn("right {task.completed:.2f}"))
    with Progress(*columns, TimeElapsedColumn()) as bar:
        task = bar.add_task("teaching the starter model", total=TARGET)
        try:
            found = pretrain(
                model, tokenizer, split(seed), seed, lambda _, reward: bar.update(task, completed=min(reward, TARGET))
            )
        except StarterNotReached as error:
            raise NotPrepared(str(error)) from error
        bar.update(task, completed=found.sampled)
    staging = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    model.save_pretrained(staging)
    tokenizer.save_pretrained(staging)
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)
