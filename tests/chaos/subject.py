"""What the jobs under chaos train: the demo's model and questions, untaught, with a reward that varies by chance.

Nothing has to be learned here, so that nothing has to be taught first.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from services.cli.demo.prepare import MODEL, job_body
from services.cli.demo.starter import CONTEXT_TOKENS, build_model
from services.cli.demo.sums import split, write_rows
from services.cli.demo.tokenizer import build_tokenizer
from services.disk.layout import Layout

SEED = 0
ROWS, VALIDATION_ROWS = 400, 32
GRADER = {"type": "regex_match", "name": "odd", "input": "{{ sample.output_text }}", "pattern": "^[0-9]*[13579]$"}


def prepare(layout: Layout) -> Path:
    """Write model, data and job file; returns the job file."""
    folder = layout.root / "chaos"
    folder.mkdir(parents=True)
    questions = split(SEED)
    write_rows(folder / "train.jsonl", questions.train[:ROWS])
    write_rows(folder / "validation.jsonl", questions.validation[:VALIDATION_ROWS])
    tokenizer = build_tokenizer(CONTEXT_TOKENS)
    build_model(tokenizer, SEED).save_pretrained(layout.models / MODEL)
    tokenizer.save_pretrained(layout.models / MODEL)
    body = job_body(SEED, steps=1)
    body["method"]["reinforcement"]["grader"] = GRADER
    body["method"]["reinforcement"]["hyperparameters"]["eval_samples"] = VALIDATION_ROWS
    job_file = folder / "job.yaml"
    job_file.write_text(yaml.safe_dump(body, sort_keys=False))
    return job_file
