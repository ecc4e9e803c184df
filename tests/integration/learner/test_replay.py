"""`sspo replay`: a journaled step again, offline, bit for bit; and what it shows when the bits differ."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.disk.layout import Layout
from services.journal.journal import Journal
from services.journal.record import Header, pack
from services.learner.model.local import open_backend
from services.learner.opening import open_learner
from services.learner.recovery.replay import CannotReplay, replay
from services.store.client import connect
from tests.support.learning import fill, layout_with_model, sample_groups
from tests.support.tiny import job_spec

pytestmark = pytest.mark.timeout(120)
JOB = "ftjob-1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Layout:
    """Six steps with two updates each: checkpoints 2, 4 and 6, of which 4 and 6 are left."""
    root = tmp_path_factory.mktemp("trained")
    layout = layout_with_model(root)
    client = connect(redis_url)
    client.flushall()
    spec = job_spec(steps=6, updates_per_step=2, keep_checkpoints=2, max_staleness=9)
    fill(client, spec, sample_groups(tmp_path_factory.mktemp("groups"), 12))
    assert open_learner(spec, client, layout).run() == "finished"
    client.flushall()
    client.close()
    return layout


@pytest.fixture
def copy(trained: Layout, tmp_path: Path) -> Layout:
    shutil.copytree(trained.root, tmp_path / "copy")
    return Layout(tmp_path / "copy")


def rewrite(folder: Path, change: Callable[[Header], Header]) -> None:
    """A journal with other headers, its chain of hashes made anew."""
    journal = Journal(folder)
    previous = ""
    for header in list(journal.headers()):
        path = folder / f"{header.sequence:08d}.rec"
        groups = path.read_bytes()[len(pack(header)[0]) :]
        head, previous = pack(changed(change(header), previous=previous))
        path.write_bytes(head + groups)


def test_every_step_that_is_kept_comes_out_the_same_and_nothing_is_written(trained: Layout) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.root.rglob("*")}
    with pytest.raises(CannotReplay, match="steps from 4 on can be replayed"):
        replay(trained, JOB, 3, open_backend)
    for step in (4, 5):
        found = replay(trained, JOB, step, open_backend)
        assert found.equal and found.start == 4 and found.environment == []
        names = [row.name for row in found.rows]
        assert {"loss", "grad_norm", "weights_sha256"} < set(names)
        assert ("checkpoint model" in names) == (step == 5), "where a checkpoint follows, all of it is compared"
    assert {path: path.stat().st_mtime_ns for path in trained.root.rglob("*")} == before


def test_the_settings_in_the_record_count_and_another_learning_rate_shows(copy: Layout) -> None:
    spec = json.loads(copy.job(JOB).spec.read_text())
    spec["learner"]["learning_rate"] = 1e-5
    copy.job(JOB).spec.write_text(json.dumps(spec))
    assert replay(copy, JOB, 5, open_backend).equal, "what the job says now does not matter"

    def slower(header: Header) -> Header:
        settings: dict[str, Any] = json.loads(json.dumps(header.settings))
        settings["learner"]["learning_rate"] = 5e-3
        return changed(header, settings=settings)

    rewrite(copy.job(JOB).journal, slower)
    found = replay(copy, JOB, 5, open_backend)
    assert not found.equal
    differing = [row.name for row in found.rows if not row.equal]
    assert "weights_sha256" in differing and "learning_rate" in differing
    assert "checkpoint model: model.embed_tokens.weight" in differing
    assert "max abs difference" in str(next(row.replayed for row in found.rows if row.name.startswith("checkpoint m")))


def test_what_was_recorded_wrongly_shows_and_the_environment_explains(copy: Layout) -> None:
    path = Journal(copy.job(JOB).journal).result_path(4)
    content = json.loads(path.read_text())
    content["figures"]["loss"] += 1e-9
    content["environment"]["torch"] = "1.0"
    path.write_text(json.dumps(content))
    found = replay(copy, JOB, 4, open_backend)
    assert [row.name for row in found.rows if not row.equal] == ["loss"]
    assert [(row.name, row.journaled) for row in found.environment] == [("torch", "1.0")]


def test_one_may_choose_where_to_begin(trained: Layout) -> None:
    assert replay(trained, JOB, 5, open_backend, from_checkpoint=4).equal
    for wanted in (2, 6):
        with pytest.raises(CannotReplay, match=rf"checkpoint {wanted}: there are \[4, 6\]"):
            replay(trained, JOB, 5, open_backend, from_checkpoint=wanted)
    with pytest.raises(CannotReplay, match="pruned"):
        replay(trained, JOB, 5, open_backend, from_checkpoint=0)
    with pytest.raises(CannotReplay, match="has steps 0 to 5"):
        replay(trained, JOB, 6, open_backend)


def test_the_command_says_yes_or_no(copy: Layout) -> None:
    """In a process of its own: neither Redis nor Ray is there, or loaded."""
    code = "import sys; from services.cli.main import app; app(standalone_mode=False); assert 'ray' not in sys.modules"
    command = [sys.executable, "-c", code, "replay", str(copy.root), JOB, "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env={"PATH": ""})
    assert done.returncode == 0, done.stderr
    assert "Bit for bit the same." in done.stdout and "weights_sha256" in done.stdout
    Journal(copy.job(JOB).journal).result_path(5).unlink()
    shutil.rmtree(copy.job(JOB).checkpoints / "step-00000006")
    answer = CliRunner().invoke(app, ["replay", str(copy.root), JOB, "5"])
    assert answer.exit_code == 1 and "Nothing was recorded of this step" in answer.stdout
    answer = CliRunner().invoke(app, ["replay", str(copy.root), JOB, "1"])
    assert answer.exit_code == 1 and "sspo replay: the groups of step 1" in answer.stderr
