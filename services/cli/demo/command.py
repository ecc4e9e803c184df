"""`sspo demo`: the whole service on one machine, on a model that is made on the spot.

Prepare a starter model → start the service → submit the job with the official `openai` SDK → show it live → measure the
model before and after with the same dice. Exit code 1 if the reward did not rise.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.demo.measure import Accuracy
from services.cli.demo.prepare import NotPrepared, Prepared, prepare
from services.cli.demo.report import plot, show_accuracy, show_drift
from services.cli.demo.service import Service, ServiceDidNotStart, service

HELD_OUT_PROMPTS = 512
POLL_SECONDS = 0.5
MEASURE_SECONDS = 300.0
JOB_SECONDS = 3600.0
ENDED = ("succeeded", "failed", "cancelled")


class DemoFailed(RuntimeError):
    """The demo can't go on; the message says why."""


def run(data: Path, steps: int | None, prepare_only: bool, seed: int) -> None:
    """Run the demo. Exits with 1 when the reward did not rise or something failed."""
    console = Console()
    started = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is ended, too
    try:
        if prepare_only:
            prepared = prepare(data, seed, steps)
            console.print(f"Prepared. Run it with: sspo job submit {prepared.job_file} --data {data}")
            return
        with service(data) as starting:  # starts up while the model is made
            starting.check()
            prepared = prepare(data, seed, steps)
            with _measure(prepared.model, prepared, seed) as before:
                try:
                    rose = _train(console, starting.ready(), prepared, before, seed)
                finally:
                    before.kill()
    except (DemoFailed, ServiceDidNotStart, NotPrepared) as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error
    console.print(f"The whole demo took {time.monotonic() - started:.0f} s.")
    if not rose:
        console.print("[red]The reward did not rise.[/red]")
        raise typer.Exit(1)


def _train(console: Console, at: Service, prepared: Prepared, measuring: subprocess.Popen[str], seed: int) -> bool:
    from openai import OpenAI

    client = OpenAI(base_url=f"{at.url}/v1", api_key=at.key)
    body: dict[str, Any] = yaml.safe_load(prepared.job_file.read_text())
    for field in ("training_file", "validation_file"):
        path = prepared.job_file.parent / body[field]
        body[field] = client.files.create(file=path, purpose="fine-tune").id
    extension = {"x_sspo": body.pop("x_sspo")}
    job = client.fine_tuning.jobs.create(**body, extra_body=extension)
    console.print(f"Job {job.id} at {at.url}/v1/x/jobs/{job.id}")
    _follow(console, client, job.id, extension["x_sspo"]["learner"]["steps"])
    before = _accuracy(measuring)
    finished = client.fine_tuning.jobs.retrieve(job.id)
    exported = prepared.models / str(finished.fine_tuned_model)
    after = _accuracy(_measure(exported, prepared, seed))
    series = client.get(f"/x/jobs/{job.id}/metrics?limit=10000", cast_to=dict[str, Any])["data"]
    records = [{"step": point["step"], **point["values"]} for point in series]
    found = client.get(f"/x/jobs/{job.id}/evaluations", cast_to=dict[str, Any])["data"]
    evaluations = [(one["step"], one["reward_mean"]) for one in found if one["reward_mean"] is not None]
    show_accuracy(console, before, after)
    show_drift(console, records)
    picture = prepared.job_file.parent / "report.png"
    plot(picture, records, evaluations, f"{job.model}: {before.sampled:.2f} → {after.sampled:.2f} on held-out prompts")
    console.print(f"Plot: {picture}   Model: {exported}")
    return after.sampled > before.sampled


def _follow(console: Console, client: Any, job_id: str, steps: int) -> None:
    """Live progress until the job has ended. Raises DemoFailed."""
    columns = (TextColumn("{task.description:<44}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    deadline = time.monotonic() + JOB_SECONDS
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("starting", total=steps)
        while time.monotonic() < deadline:
            view: dict[str, Any] = client.get(f"/x/jobs/{job_id}", cast_to=dict[str, Any])
            waiting = (view.get("waiting_for") or {}).get("what", view["status"])
            reward = _latest_reward(client, job_id, view["step"] or 0)
            words = f"reward {reward:.2f}, {waiting}" if reward is not None else str(waiting)
            progress.update(task, completed=view["step"] or 0, description=words[:44])
            if view["status"] in ENDED:
                break
            time.sleep(POLL_SECONDS)
    if view["status"] != "succeeded":
        raise DemoFailed(f"the job is {view['status']}: {view.get('error')}")


def _latest_reward(client: Any, job_id: str, step: int) -> float | None:
    """Mean reward of the newest training batch."""
    query = f"/x/jobs/{job_id}/metrics?name=reward_mean&since={max(0, step - 2)}"
    points = client.get(query, cast_to=dict[str, Any])["data"]
    return points[-1]["values"].get("reward_mean") if points else None


def _measure(model: Path, prepared: Prepared, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "services.cli.demo.measure", str(model)]
    command += [str(prepared.validation_file), str(HELD_OUT_PROMPTS), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _accuracy(process: subprocess.Popen[str]) -> Accuracy:
    output, errors = process.communicate(timeout=MEASURE_SECONDS)
    if process.returncode:
        raise DemoFailed(f"measuring the model failed: {errors[-2000:]}")
    return Accuracy(**json.loads(output.strip().splitlines()[-1]))
