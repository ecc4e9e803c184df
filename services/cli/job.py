"""`sspo job`: submit, look at, watch and steer jobs, over REST with the official SDK."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.connection import client
from services.job.strict_json import JsonObject

app = typer.Typer(no_args_is_help=True, help="Submit, look at, watch and steer jobs.")

JobId = Annotated[str, typer.Argument(metavar="JOB_ID")]
Data = Annotated[Path | None, typer.Option("--data", help="The service's data folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the bare id.")]
Json = Annotated[bool, typer.Option("--json", help="Print the object as JSON.")]


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Job file in YAML.")],
    data: Data = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Upload a job file's data and start the job."""
    from services.cli import job_file

    try:
        job = job_file.read(file)
    except job_file.BadJobFile as error:
        typer.echo(f"sspo: {error}", err=True)
        raise typer.Exit(1) from error
    with client(data) as api:
        _show(job_file.submit(api, job).to_dict(), quiet, as_json)


@app.command("list")
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    data: Data = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    from itertools import islice

    with client(data) as api:
        jobs = [job.to_dict() for job in islice(api.fine_tuning.jobs.list(limit=min(limit, 100)), limit)]
    if as_json:
        typer.echo(json.dumps(jobs, indent=2))
        return
    for job in jobs:
        typer.echo(job["id"] if quiet else _line(job))


@app.command()
def get(job_id: JobId, data: Data = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """Show one job: where it is, what it waits for, where its groups are."""
    with client(data) as api:
        job = api.fine_tuning.jobs.retrieve(job_id).to_dict()
        view = api.get(f"/x/jobs/{job_id}", cast_to=JsonObject)
    if quiet or as_json:
        _show({**job, "x_job": view}, quiet, as_json)
        return
    from rich.console import Console

    from services.api.schemas.job_view import JobView
    from services.cli.job_view import details

    Console().print(details(JobView.model_validate(view)))


@app.command()
def watch(
    job_id: JobId,
    data: Data = None,
    quiet: Quiet = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Follow a job until it has ended. Exit code 0 when it succeeded, 1 when it failed or was cancelled."""
    from services.cli.job_watch import follow

    with client(data) as api:
        status = follow(api, job_id, quiet=quiet, as_json=as_json)
    if quiet:
        typer.echo(job_id)
    raise typer.Exit(0 if status == "succeeded" else 1)


@app.command()
def cancel(job_id: JobId, data: Data = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """End a job for good."""
    with client(data) as api:
        _show(api.fine_tuning.jobs.cancel(job_id).to_dict(), quiet, as_json)


@app.command()
def pause(job_id: JobId, data: Data = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """Drain a job, checkpoint it and release its workers. Nothing is lost."""
    with client(data) as api:
        _show(api.fine_tuning.jobs.pause(job_id).to_dict(), quiet, as_json)


@app.command()
def explain(job_id: JobId, data: Data = None, as_json: Json = False) -> None:
    """Say what the job's figures mean now: what makes it drift, wait or waste, and what to do about it."""
    with client(data) as api:
        findings = api.get(f"/x/jobs/{job_id}/explain", cast_to=dict[str, list[JsonObject]])["data"]
    if as_json:
        typer.echo(json.dumps(findings, indent=2))
        return
    for finding in findings:
        typer.echo(f"[{finding['severity']}] {finding['title']}\n  {finding['text']}")


@app.command()
def resume(job_id: JobId, data: Data = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """Go on with a paused job, or with a failed one from its last checkpoint."""
    with client(data) as api:
        _show(api.fine_tuning.jobs.resume(job_id).to_dict(), quiet, as_json)


@app.command()
def scale(
    job_id: JobId,
    rollout: Annotated[int | None, typer.Option(min=0, help="Rollout workers wanted.")] = None,
    reward: Annotated[int | None, typer.Option(min=0, help="Reward workers wanted.")] = None,
    data: Data = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Change how many workers a job wants."""
    wanted = {kind: count for kind, count in (("rollout", rollout), ("reward", reward)) if count is not None}
    if not wanted:
        raise typer.BadParameter("say how many with --rollout N or --reward N")
    with client(data) as api:
        for kind, replicas in wanted.items():
            # Named, so that the SDK's own retries cannot undo what somebody else asked for meanwhile.
            body = {"replicas": replicas, "operation_id": f"cli-{time.time_ns()}-{kind}"}
            scaled = api.put(f"/x/jobs/{job_id}/{kind}_workers", body=body, cast_to=JsonObject)
            if as_json:
                typer.echo(json.dumps(scaled, indent=2))
            elif not quiet:
                typer.echo(f"{job_id}  {kind} workers {scaled['previous']} -> {scaled['replicas']}")
    if quiet:
        typer.echo(job_id)


def _show(job: JsonObject, quiet: bool, as_json: bool) -> None:
    if quiet:
        typer.echo(job["id"])
    elif as_json:
        typer.echo(json.dumps(job, indent=2))
    else:
        typer.echo(_line(job))


def _line(job: dict[str, Any]) -> str:
    created = time.strftime("%Y-%m-%d %H:%M", time.localtime(job["created_at"]))
    return f"{job['id']}  {job['status']:<16}  {created}  {job['model']}"
