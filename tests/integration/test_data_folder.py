"""A data folder outlives what runs on it: older versions go on to the same bits, and so do copies made meanwhile."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from services.cli.backup import BackupExists, backup
from services.cli.up.migrations import bring_up_to_date
from services.disk.files import whole_lines
from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.journal.errors import JournalDamaged
from services.journal.journal import Journal
from services.learner.errors import WrongFolder
from services.learner.loop import Learner
from services.learner.opening import open_learner
from services.learner.recovery import checkpoint
from services.store import keys
from services.store.client import Client, connect
from services.trajectories.ledger import Ledger
from testbed.redis_server import RedisServer
from tests.support.audit import audit
from tests.support.learning import assert_ledger, exported, fill, layout_with_model, same_bits
from tests.support.tiny import job_spec

pytestmark = pytest.mark.timeout(120)


def as_version_0(layout: Layout, spec: JobSpec) -> None:
    """Turn what a learner wrote into what version 0 wrote."""
    folder = layout.job(spec.job_id)
    journal = Journal(folder.journal)
    previous = ""
    for header in list(journal.headers()):
        groups = journal.read(header.sequence).payloads
        fields = {**asdict(header), "previous": previous, "schema_version": 1}
        del fields["payload_hash"], fields["causes"]
        text = json.dumps(fields, sort_keys=True).encode()
        body = b"SSPOJ1\n\0" + struct.pack("<I", len(text)) + text + b"".join(groups)
        previous = hashlib.sha256(body).hexdigest()
        (folder.journal / f"{header.sequence:08d}.rec").write_bytes(body + bytes.fromhex(previous))
        journal.result_path(header.sequence).unlink()
    for path in checkpoint.stored(folder.checkpoints):
        state = json.loads((path / checkpoint.STATE).read_text())
        del state["sequence"]
        (path / checkpoint.STATE).write_text(json.dumps(state))
        manifest: dict[str, Any] = json.loads((path / checkpoint.MANIFEST).read_text())
        manifest["sha256"][checkpoint.STATE] = hashlib.sha256((path / checkpoint.STATE).read_bytes()).hexdigest()
        (path / checkpoint.MANIFEST).write_text(json.dumps(manifest))
    folder.spec.unlink()
    layout.redis.mkdir()


def test_a_job_of_version_0_goes_on_to_the_same_bits(client: Client, layout: Layout, groups: list[bytes]) -> None:
    calm, old = (job_spec(name, steps=4, max_staleness=9) for name in ("ftjob-calm", "ftjob-old"))
    for spec in (calm, old):
        fill(client, spec, groups)
    open_learner(calm, client, layout).run()
    learner = open_learner(old, client, layout)
    stop_after(learner, 3)
    assert learner.run() == "drained"
    for path in checkpoint.stored(layout.job(old.job_id).checkpoints)[1:]:
        shutil.rmtree(path)  # so that a record is replayed
    as_version_0(layout, old)
    client.hdel(keys.progress(old.job_id), "records")
    bring_up_to_date(layout)
    assert open_learner(old, client, layout).run() == "finished"
    assert same_bits(exported(layout, calm), exported(layout, old))
    report = audit(layout.job(old.job_id).journal)
    assert report.clean and report.trained == 8


def test_a_learner_refuses_a_newer_folder(client: Client, layout: Layout) -> None:
    layout.version.write_text('{"schema_version": 2}')
    with pytest.raises(WrongFolder, match="schema version 2"):
        open_learner(job_spec(), client, layout).run()


def stop_after(learner: Learner, steps: int, also: threading.Event | None = None) -> None:
    """Let a learner end after some steps; `also` is set then."""
    one_step = learner.one_step

    def patched() -> None:
        one_step()
        if learner.step == steps:
            learner.pulse.stop() if also is None else also.set()
        if learner.step >= steps:
            time.sleep(0.2)  # whoever waits for `also` finds it in the middle of its job

    learner.one_step = patched  # type: ignore[method-assign]


@pytest.fixture
def served() -> Iterator[tuple[Layout, RedisServer]]:
    """A data folder with a Redis of its own that writes its append-only file into it."""
    with tempfile.TemporaryDirectory(prefix="sspo-b") as root:
        layout = layout_with_model(Path(root) / "data")
        layout.redis.mkdir()
        server = RedisServer(layout.redis, durable=True)
        server.start()
        yield layout, server
        server.kill()


def test_a_copy_made_while_a_learner_trains_goes_on_without_loss(
    served: tuple[Layout, RedisServer], groups: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, server = served
    bring_up_to_date(layout)
    client = connect(server.url)
    spec = job_spec(steps=8, batch_size=1, max_staleness=9, checkpoint_every=1, keep_checkpoints=2)
    fill(client, spec, groups)
    trained = threading.Event()
    learner = open_learner(spec, client, layout)
    stop_after(learner, 3, also=trained)
    training = threading.Thread(target=learner.run, daemon=True)
    training.start()
    assert trained.wait(60)
    target = layout.root.parent / "copy"
    backup(layout, target)
    training.join(60)
    shutil.copytree(target / "jobs", layout.root.parent / "jobs-of-the-copy")
    expected = exported(layout, spec)

    copy = Layout(target)
    restored = RedisServer(copy.redis, durable=True)
    restored.start()
    try:
        again = connect(restored.url)
        before = Ledger(again).snapshot(spec.job_id)
        assert before.trained < 8, "the copy is of the middle of the job"
        said = [record["step"] for record in map(json.loads, whole_lines(copy.job(spec.job_id).steps))]
        assert said[:2] == [0, 1], "older figures than Redis keeps are in the copy too"
        assert open_learner(spec, again, copy).run() == "finished"
        assert_ledger(again, spec, trained=8)
        assert same_bits(exported(copy, spec), expected)
        report = audit(copy.job(spec.job_id).journal)
        assert report.clean and report.trained == 8
        # The other order, a journal that is older than its Redis, is refused and not trained on.
        shutil.rmtree(copy.jobs)
        shutil.move(layout.root.parent / "jobs-of-the-copy", copy.jobs)
        with pytest.raises(JournalDamaged, match="Redis knows of 8 records"):
            open_learner(spec, again, copy).run()
    finally:
        restored.kill()
    with pytest.raises(BackupExists):
        backup(layout, target)
