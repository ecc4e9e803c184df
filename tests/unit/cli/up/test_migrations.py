"""Data folders of other versions: older ones are brought up to date, newer ones refused."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.cli.up.migrations import CannotMigrate, bring_up_to_date, write_missing_specs
from services.disk.folder_version import SCHEMA_VERSION, FolderRefused, read, refuse_newer
from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.journal.errors import JournalDamaged
from services.journal.journal import Journal
from services.store.client import Client
from tests.support.audit import audit
from tests.support.interruption import interrupted_after
from tests.support.tiny import create_job, job_spec

FIELDS: dict[str, Any] = {"epoch": 1, "cursor": 4, "settings": {}, "policy_version": 1, "written_at": 1.0}


def write_version_0(folder: Path) -> None:
    """Two steps and a drop, as version 0 wrote them."""
    folder.mkdir(parents=True)
    (folder / "epoch.1").write_text("17 1.0\n")
    previous = ""
    rows: list[tuple[str, int, list[int], dict[str, list[int]]]] = [
        ("step", 0, [0, 2], {}),
        ("drop", 1, [], {"stale": [1]}),
        ("step", 1, [3], {}),
    ]
    for sequence, (kind, step, trained, dropped) in enumerate(rows):
        groups = [b"group %d" % number for number in trained]
        header = {"sequence": sequence, "kind": kind, "step": step, "previous": previous, "trained": trained, **FIELDS}
        header |= {"dropped": dropped, "sizes": [len(group) for group in groups], "schema_version": 1}
        text = json.dumps(header, sort_keys=True).encode()
        body = b"SSPOJ1\n\0" + struct.pack("<I", len(text)) + text + b"".join(groups)
        previous = hashlib.sha256(body).hexdigest()
        (folder / f"{sequence:08d}.rec").write_bytes(body + bytes.fromhex(previous))


@pytest.fixture
def old(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    write_version_0(layout.job("ftjob-1").journal)
    return layout


def assert_migrated(layout: Layout) -> None:
    folder = layout.job("ftjob-1")
    journal = Journal(folder.journal)
    assert [header.kind for header in journal.headers()] == ["step", "drop", "step"]
    assert journal.read(0).payloads == [b"group 0", b"group 2"] and journal.read(2).payloads == [b"group 3"]
    report = audit(folder.journal)
    assert report.clean and (report.steps, report.trained, report.dropped) == (2, 3, {"stale": 1})
    assert journal.claim_epoch() == 2
    assert [path.name for path in folder.root.iterdir()] == ["journal"]
    assert read(layout) == SCHEMA_VERSION


def test_version_0_is_refused_by_the_learner_and_brought_up_to_date(old: Layout) -> None:
    assert read(old) == 0
    with pytest.raises(JournalDamaged, match="`sspo migrate` bring an older data folder up to date"):
        list(Journal(old.job("ftjob-1").journal).headers())
    answer = CliRunner().invoke(app, ["migrate", str(old.root)])
    assert answer.exit_code == 0 and answer.stdout.endswith(f"{old.root} has schema version 1\n")
    assert_migrated(old)
    bring_up_to_date(old)
    assert read(old) == SCHEMA_VERSION


@pytest.mark.parametrize("survived", range(0, 30, 2))
def test_a_migration_may_be_interrupted_anywhere(old: Layout, survived: int) -> None:
    with interrupted_after(survived, ("fsync", "rename", "mkdir", "rmdir")):
        bring_up_to_date(old)
    bring_up_to_date(old)
    assert_migrated(old)


def test_a_damaged_old_journal_stays_as_it_is(old: Layout) -> None:
    path = old.job("ftjob-1").journal / "00000001.rec"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    with pytest.raises(CannotMigrate, match=r"00000001\.rec fails its hash"):
        bring_up_to_date(old)
    assert path.read_bytes() == data[:-1] + b"x" and read(old) == 0


def test_a_fresh_folder_is_marked_and_a_newer_one_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    bring_up_to_date(layout)
    content = json.loads(layout.version.read_text())
    assert content["schema_version"] == SCHEMA_VERSION and content["written_by"].startswith("sspo ")
    layout.version.write_text('{"schema_version": 99}')
    for refuse in (bring_up_to_date, refuse_newer):
        with pytest.raises(FolderRefused, match=r"schema version 99 .* knows up to 1: install .* or restore a backup"):
            refuse(layout)
    command = [sys.executable, "-m", "services.cli.main", "up", "--data", str(tmp_path), "--port", "0"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert answer.returncode == 1 and "sspo up: " in answer.stderr and "schema version 99" in answer.stderr
    layout.version.write_text("damaged")
    with pytest.raises(FolderRefused, match="no version file"):
        refuse_newer(layout)


def test_jobs_of_version_0_get_their_spec_from_redis(client: Client, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for job_id in ("ftjob-1", "ftjob-2"):
        create_job(client, job_spec(job_id))
    layout.job("ftjob-1").journal.mkdir(parents=True)
    write_missing_specs(layout, client)
    assert JobSpec.model_validate_json(layout.job("ftjob-1").spec.read_text()) == job_spec("ftjob-1")
    assert not layout.job("ftjob-2").root.exists(), "it never ran"
