"""One record of the journal, as bytes.

    magic | header length (u32) | header (JSON) | sha256 of all before: the record's hash | group payloads, verbatim

The header holds the hash of the payloads, so it proves them and also stands without them. Pruning cuts a record behind
its own hash, and the chain of hashes stays the same. Headers stay for ever: they say what became of every group.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import BinaryIO, Literal

from services.job.strict_json import JsonObject
from services.journal.errors import JournalDamaged

MAGIC = b"SSPOJ2\n\0"
SCHEMA_VERSION = 2
HASH_BYTES = 32
_LENGTH = struct.Struct("<I")
_START_BYTES = len(MAGIC) + _LENGTH.size

Kind = Literal["step", "drop", "skip", "rollback", "close"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """The part of a record that is remembered for the life of a job: it says what became of every group."""

    sequence: int
    """Its place in the journal, from 0."""
    kind: Kind
    step: int
    """Of a `step` record: the step trained. Else: the next step, for `skip` and `rollback` the one gone back to."""
    cursor: int
    """The dispatcher's cursor when this was written: every number of the record is below it."""
    trained: list[int] = field(default_factory=list)
    dropped: dict[str, list[int]] = field(default_factory=dict)
    """Reason -> numbers. Those of a `skip` or `rollback` were trained by records that it undoes."""
    policy_version: int = 0
    """Newest version published when this was written."""
    causes: list[str] = field(default_factory=list)
    """Of a `skip`: how each attempt to train the record ended."""
    written_at: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header(Outline):
    """Everything of a record but the groups' bytes."""

    epoch: int
    """Of the learner that wrote it."""
    previous: str
    """Hash of the record before; "" for the first."""
    sizes: list[int] = field(default_factory=list)
    """Bytes of each trained group, in the order of `trained`."""
    payload_hash: str = ""
    """sha256 of the groups' bytes; "" without groups."""
    settings: JsonObject = field(default_factory=dict)
    """The learner settings in effect, for replay; and what the guard knew."""
    schema_version: int = SCHEMA_VERSION

    def outline(self) -> Outline:
        """The part that is remembered."""
        return Outline(**{known.name: getattr(self, known.name) for known in fields(Outline)})


@dataclass(frozen=True)
class Record:
    """A verified record. `payloads` are the groups as they came off the stream."""

    header: Header
    payloads: list[bytes]
    hash: str


def payload_hash(payloads: Sequence[bytes]) -> str:
    """The hash of its groups' bytes, for a header."""
    return hashlib.sha256(b"".join(payloads)).hexdigest() if payloads else ""


def pack(header: Header) -> tuple[bytes, str]:
    """The record up to its payloads, and its hash."""
    text = json.dumps(asdict(header), sort_keys=True).encode()
    head = MAGIC + _LENGTH.pack(len(text)) + text
    digest = hashlib.sha256(head)
    return head + digest.digest(), digest.hexdigest()


def read_header(path: Path) -> tuple[Header, str]:
    """Header and hash, verified; the groups are not read. Raises JournalDamaged."""
    with _opened(path) as file:
        head, header = _head(file, path.name)
    return header, head[-HASH_BYTES:].hex()


def read_head(path: Path) -> tuple[bytes, bool]:
    """The bytes up to the payloads, verified, and whether any payload follows. Raises JournalDamaged."""
    with _opened(path) as file:
        head, _ = _head(file, path.name)
        return head, bool(file.read(1))


def read_record(path: Path) -> Record:
    """Header and groups, verified. Raises JournalDamaged, also for a record whose groups were pruned."""
    with _opened(path) as file:
        head, header = _head(file, path.name)
        body = file.read()
    if header.sizes and not body:
        raise JournalDamaged(
            f"the groups of {path.name} were pruned, since newer checkpoints stood for them, and none of those can be "
            "read: put checkpoints/ back from a backup (the damaged ones lie there as *.damaged)"
        )
    payloads, offset = [], 0
    for size in header.sizes:
        payloads.append(body[offset : offset + size])
        offset += size
    if offset != len(body) or payload_hash(payloads) != header.payload_hash:
        raise JournalDamaged(f"{path.name} fails its hash: put it back from a backup of the journal")
    return Record(header, payloads, head[-HASH_BYTES:].hex())


def _opened(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise JournalDamaged(f"{path.name} is missing: put it back from a backup of the journal") from error


def _head(file: BinaryIO, name: str) -> tuple[bytes, Header]:
    start = file.read(_START_BYTES)
    if len(start) < _START_BYTES or not start.startswith(MAGIC):
        raise JournalDamaged(
            f"{name} is no record of this version; `sspo up` and `sspo migrate` bring an older data folder up to date"
        )
    (length,) = _LENGTH.unpack_from(start, len(MAGIC))
    rest = file.read(length + HASH_BYTES)
    head, digest = start + rest[:length], rest[length:]
    if hashlib.sha256(head).digest() != digest:
        raise JournalDamaged(f"{name} fails its hash: put it back from a backup of the journal")
    fields = json.loads(rest[:length])
    if fields["schema_version"] > SCHEMA_VERSION:
        raise JournalDamaged(f"{name} was written by a newer version of SSPO: use that one, or a newer one still")
    return head + digest, Header(**fields)
