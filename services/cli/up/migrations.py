"""Brings an older data folder up to date, one version at a time. Each migration may be interrupted and is repeated.

0 -> 1   Journals: headers that stand without their groups, so that groups can be pruned.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

from services.disk.files import durable, fsync, make_folder, move, write_atomic, write_durable
from services.disk.folder_version import SCHEMA_VERSION, read, refuse_newer, write
from services.disk.layout import JobFolder, Layout
from services.store.client import Client
from services.store.job.jobs import Jobs

log = structlog.get_logger()

_OLD_MAGIC = b"SSPOJ1\n\0"
_LENGTH = struct.Struct("<I")


class CannotMigrate(RuntimeError):
    """Something in the folder is damaged; the message says what."""


def bring_up_to_date(layout: Layout) -> None:
    """Migrate and mark the folder; nothing may be running on it. Raises FolderRefused, CannotMigrate."""
    refuse_newer(layout)
    for version in range(read(layout), SCHEMA_VERSION):
        log.info("folder_migrates", from_version=version)
        MIGRATIONS[version](layout)
        write(layout, version + 1)
    if not layout.version.exists():
        write(layout, SCHEMA_VERSION)


def write_missing_specs(layout: Layout, client: Client) -> None:
    """Write each job's `spec.json`. In version 0 only Redis had the specs."""
    jobs = Jobs(client)
    for job_id in jobs.ids():
        folder = layout.job(job_id)
        if folder.root.exists() and not folder.spec.exists():
            write_atomic(folder.spec, jobs.get(job_id).spec.model_dump_json(indent=1).encode())


def migrate_0_to_1(layout: Layout) -> None:
    """Rewrite every journal into its new layout beside the old one, check it, exchange the two."""
    for folder in sorted(layout.jobs.glob("*")):
        _migrate_journal(JobFolder(folder))


MIGRATIONS: dict[int, Callable[[Layout], None]] = {0: migrate_0_to_1}


def _migrate_journal(job: JobFolder) -> None:
    new, old = job.root / "journal.new", job.root / "journal.v0"
    if not job.journal.exists() and old.exists():  # interrupted between the two renames below
        move(new, job.journal)
    if any(path.read_bytes()[: len(_OLD_MAGIC)] == _OLD_MAGIC for path in sorted(job.journal.glob("*.rec"))[:1]):
        shutil.rmtree(new, ignore_errors=True)
        make_folder(new)
        for path in job.journal.glob("epoch.*"):
            write_durable(new / path.name, path.read_bytes())
        _rewrite(job.journal, new)
        fsync(new)
        move(job.journal, old)
        move(new, job.journal)
    if old.exists():
        shutil.rmtree(old)


def _rewrite(source: Path, target: Path) -> None:
    from services.journal.journal import Journal
    from services.journal.record import SCHEMA_VERSION as RECORD_VERSION
    from services.journal.record import Header, pack, payload_hash

    previous, count = "", 0
    for fields, groups in _old_records(source):
        changes = {"previous": previous, "payload_hash": payload_hash(groups), "schema_version": RECORD_VERSION}
        head, previous = pack(Header(**{**fields, **changes}))
        with durable(target / f"{fields['sequence']:08d}.rec") as file:
            file.writelines([head, *groups])
        count += 1
    journal = Journal(target)
    readable = len([journal.read(header.sequence) for header in journal.headers()])
    if readable != count:
        raise CannotMigrate(f"{target}: {readable} of {count} records came out")


def _old_records(folder: Path) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
    """magic | header length | header | groups | sha256 of all before; each header has the hash of the record before."""
    previous = ""
    for sequence, path in enumerate(sorted(folder.glob("*.rec"))):
        data = path.read_bytes()
        body, digest = data[:-32], data[-32:]
        if not body.startswith(_OLD_MAGIC) or hashlib.sha256(body).digest() != digest:
            raise CannotMigrate(f"{path} fails its hash: put it back from a backup")
        (length,) = _LENGTH.unpack_from(body, len(_OLD_MAGIC))
        offset = len(_OLD_MAGIC) + _LENGTH.size + length
        fields = json.loads(body[offset - length : offset])
        if fields["sequence"] != sequence or fields["previous"] != previous:
            raise CannotMigrate(f"{path} does not follow the record before it: put the journal back from a backup")
        groups = []
        for size in fields["sizes"]:
            groups.append(body[offset : offset + size])
            offset += size
        previous = digest.hex()
        yield fields, groups
