"""`sspo job` against a real server."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from services.cli.main import app
from services.store.client import Client
from services.store.files import Files
from services.store.job.events import Events
from services.store.job.jobs import Jobs
from services.store.job.transitions import Status

KEY = "sk-test"
ROW = b'{"messages": [{"role": "user", "content": "2+2?"}], "answer": "4"}\n'
Sspo = Callable[..., Any]


@pytest.fixture
def folder(url: str, data: Path) -> Path:
    """The data folder as `sspo up` leaves it."""
    (data / "up.json").write_text(json.dumps({"url": url}))
    (data / "api-key").write_text(KEY)
    return data


@pytest.fixture
def sspo(folder: Path) -> Sspo:
    """`sspo("job", "list")`: the result, with `--data` given."""
    return lambda *words: CliRunner().invoke(app, [*words, "--data", str(folder)])


@pytest.fixture
def job_file(tmp_path: Path, body: dict[str, Any]) -> Path:
    (tmp_path / "train.jsonl").write_bytes(ROW * 3)
    path = tmp_path / "job.yaml"
    wanted = {**body, "training_file": "train.jsonl", "x_sspo": {"learner": {"steps": 5}}}
    path.write_text(yaml.safe_dump(wanted))
    return path


def test_submit_uploads_and_creates(sspo: Sspo, job_file: Path, client: Client, settings: Any) -> None:
    result = sspo("job", "submit", str(job_file), "--quiet")
    assert result.exit_code == 0, result.output
    job_id = result.stdout.strip()
    record = Jobs(client).get(job_id)
    assert record.spec.learner.steps == 5
    uploaded = Files(client, settings.layout).path(record.spec.training_file)
    assert uploaded.read_bytes() == ROW * 3
    shown = json.loads(sspo("job", "submit", str(job_file), "--json").stdout)
    assert (shown["object"], shown["x_sspo"]["learner"]["steps"]) == ("fine_tuning.job", 5)
    line = sspo("job", "submit", str(job_file)).stdout
    assert "validating_files" in line
    assert line.split()[0] in Jobs(client).ids()


def test_a_refused_submit_names_the_field_and_takes_its_uploads_back(
    sspo: Sspo, job_file: Path, client: Client, settings: Any
) -> None:
    before = Files(client, settings.layout).list()[0]
    job_file.write_text(job_file.read_text().replace("steps: 5", "stepps: 5"))
    result = sspo("job", "submit", str(job_file))
    assert result.exit_code == 1
    assert "sspo: Unknown field 'x_sspo.learner.stepps'" in result.stderr
    assert Files(client, settings.layout).list()[0] == before
    assert Jobs(client).ids() == []


def test_list_and_get_show_jobs(sspo: Sspo, create: Callable[..., str]) -> None:
    first, second = create(), create()
    assert sspo("job", "list", "--quiet").stdout.split() == [second, first]
    assert sspo("job", "list", "--quiet", "--limit", "1").stdout.split() == [second]
    assert [job["id"] for job in json.loads(sspo("job", "list", "--json").stdout)] == [second, first]
    assert "validating_files" in sspo("job", "list").stdout
    assert sspo("job", "get", first, "--quiet").stdout == f"{first}\n"
    assert json.loads(sspo("job", "get", first, "--json").stdout)["x_job"]["ledger"]["issued"] == 0
    text = sspo("job", "get", first).stdout
    assert first in text
    assert "validation of the files" in text


def test_pause_resume_cancel_and_scale(sspo: Sspo, client: Client, create: Callable[..., str]) -> None:
    job_id = create()
    Jobs(client).transition(job_id, Status.QUEUED, by="test")
    for command, status in (("pause", "paused"), ("resume", "queued")):
        assert status in sspo("job", command, job_id).stdout
    assert "rollout workers 1 -> 3" in sspo("job", "scale", job_id, "--rollout", "3").stdout
    assert sspo("job", "scale", job_id, "--reward", "2", "--rollout", "4", "--quiet").stdout == f"{job_id}\n"
    record = Jobs(client).get(job_id)
    assert (record.rollout_workers, record.reward_workers) == (4, 2)
    assert json.loads(sspo("job", "cancel", job_id, "--json").stdout)["status"] == "cancelled"
    refused = sspo("job", "pause", job_id)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "is cancelled" in refused.stderr
    assert sspo("job", "scale", job_id).exit_code == 2


@pytest.mark.parametrize(("end", "code"), [(Status.SUCCEEDED, 0), (Status.FAILED, 1)])
def test_watch_follows_until_the_end(
    sspo: Sspo, client: Client, create: Callable[..., str], end: Status, code: int
) -> None:
    job_id = create()
    jobs = Jobs(client)
    jobs.transition(job_id, Status.QUEUED, by="test")
    jobs.transition(job_id, Status.RUNNING, by="test")

    def go_on() -> None:
        time.sleep(0.3)
        Events(client).add(job_id, "Step 1/5: [bold]reward[/bold] 0.5", type="metrics")
        jobs.transition(job_id, end, by="test")

    thread = threading.Thread(target=go_on)
    thread.start()
    result = sspo("job", "watch", job_id)
    thread.join(10)
    assert result.exit_code == code
    messages = [line.split("  ", 1)[1] for line in result.stdout.splitlines()]
    expected = ["Created the job", *(f"The job is now {status}" for status in ("queued", "running"))]
    assert messages == [*expected, "Step 1/5: [bold]reward[/bold] 0.5", f"The job is now {end}"]
    lines = sspo("job", "watch", job_id, "--json").stdout.splitlines()
    assert [json.loads(line)["message"] for line in lines] == messages
    assert sspo("job", "watch", job_id, "--quiet").stdout == f"{job_id}\n"


def test_what_goes_wrong_is_one_line(sspo: Sspo, folder: Path) -> None:
    missing = sspo("job", "get", "ftjob-none")
    assert (missing.exit_code, missing.stderr) == (1, "sspo: no job 'ftjob-none'\n")
    (folder / "api-key").write_text("wrong")
    assert "Incorrect API key" in sspo("job", "list").stderr
    (folder / "up.json").write_text('{"url": "http://127.0.0.1:1"}')
    away = sspo("job", "list")
    assert (away.exit_code, away.stderr) == (1, "sspo: no service answers at http://127.0.0.1:1\n")


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    script = (
        "import sys, services.cli.main\n"
        "heavy = ('torch', 'ray', 'vllm', 'transformers', 'openai', 'rich.live', 'fastapi', 'redis')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.strip() == "[]"
