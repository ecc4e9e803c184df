"""The write-ahead log of training: the truth about which groups were trained, dropped, and why.

One file per record, `journal/<sequence>.rec`:

    magic | header length (u32) | header (JSON) | group payloads, verbatim | sha256 of all before

Invariants: a record is complete and fsynced before it gets its name; it gets its name by `link`, which fails if the
place is taken, and that link is the commit; each header holds the hash of the record before, so that a gap or an
exchange can't go unseen. Kinds: `step` (a batch that is trained), `drop` (groups finished without training), `close`
(end of the job). Epochs are claimed with exclusive files in the same folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from services.files import fsync_folder
from services.learner.errors import JournalDamaged, SequenceTaken

MAGIC = b"SSPOJ1\n\0"
SCHEMA_VERSION = 1
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Header:
    """Everything of a record but the groups' bytes."""

    sequence: int
    kind: Literal["step", "drop", "close"]
    step: int
    """Of a `step` record: the step trained. Else: the next step."""
    epoch: int
    previous: str
    """Hash of the record before; "" for the first."""
    cursor: int
    """The dispatcher's cursor when this was written: every number of the record is below it."""
    trained: list[int] = field(default_factory=list)
    dropped: dict[str, list[int]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    """Bytes of each trained group, in the order of `trained`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """The learner settings in effect, for replay."""
    policy_version: int = 0
    """Newest version published when this was written."""
    written_at: float = 0.0
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class Record:
    """A verified record. `payloads` are the groups as they came off the stream."""

    header: Header
    payloads: list[bytes]
    hash: str


@dataclass(frozen=True)
class Draft:
    """What the caller knows of a new record; the journal adds its place in the chain."""

    kind: Literal["step", "drop", "close"]
    step: int
    cursor: int
    groups: Sequence[tuple[int, bytes]] = ()
    dropped: Mapping[str, Sequence[int]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    policy_version: int = 0


class Journal:
    """The journal of one job, written by one epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.epoch = 0
        self._next = 0
        self._previous = ""

    def claim_epoch(self) -> int:
        """Become the newest writer: epoch = 1 + the highest on disk, claimed with an exclusive file."""
        while True:
            epoch = 1 + max((int(path.suffix[1:]) for path in self.folder.glob("epoch.*")), default=0)
            try:
                with open(self.folder / f"epoch.{epoch}", "x") as file:
                    file.write(f"{os.getpid()} {time.time()}\n")
            except FileExistsError:
                continue
            fsync_folder(self.folder)
            self.epoch = epoch
            return epoch

    def headers(self) -> Iterator[Header]:
        """All headers in order, verified; positions the journal behind the last record. Raises JournalDamaged."""
        for record in self.records():
            yield record.header

    def records(self) -> Iterator[Record]:
        """All records in order, verified by hash and chain; positions the journal behind the last one read."""
        self._next, self._previous = 0, ""
        last = max((int(path.stem) for path in self.folder.glob("*.rec")), default=-1)
        while self._next <= last:
            record = read_record(self._path(self._next))
            if record.header.sequence != self._next or record.header.previous != self._previous:
                raise JournalDamaged(f"record {self._next} does not follow the one before it")
            self._next, self._previous = self._next + 1, record.hash
            yield record

    def commit(self, draft: Draft) -> Header:
        """Write, fsync and link one record. Raises SequenceTaken when another learner was there first."""
        header = Header(
            sequence=self._next,
            kind=draft.kind,
            step=draft.step,
            epoch=self.epoch,
            previous=self._previous,
            cursor=draft.cursor,
            trained=[number for number, _ in draft.groups],
            dropped={reason: list(numbers) for reason, numbers in draft.dropped.items() if numbers},
            sizes=[len(payload) for _, payload in draft.groups],
            settings=dict(draft.settings),
            policy_version=draft.policy_version,
            written_at=time.time(),
        )
        body = _pack(header, [payload for _, payload in draft.groups])
        digest = hashlib.sha256(body).digest()
        temporary = self.folder / f".record-{header.sequence}-{self.epoch}-{os.getpid()}"
        with open(temporary, "wb") as file:
            file.write(body)
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, self._path(header.sequence))
        except FileExistsError as error:
            raise SequenceTaken(f"record {header.sequence} was committed by another learner") from error
        finally:
            temporary.unlink()
        fsync_folder(self.folder)
        self._next, self._previous = header.sequence + 1, digest.hex()
        return header

    def _path(self, sequence: int) -> Path:
        return self.folder / f"{sequence:08d}.rec"


def read_record(path: Path) -> Record:
    """One record, verified by its own hash. Raises JournalDamaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise JournalDamaged(f"{path.name} is missing") from error
    body, digest = data[:-32], data[-32:]
    if not body.startswith(MAGIC) or hashlib.sha256(body).digest() != digest:
        raise JournalDamaged(f"{path.name} fails its hash")
    start = len(MAGIC) + _LENGTH.size
    (length,) = _LENGTH.unpack_from(body, len(MAGIC))
    header = Header(**json.loads(body[start : start + length]))
    if header.schema_version > SCHEMA_VERSION:
        raise JournalDamaged(f"{path.name} has schema version {header.schema_version}, newer than {SCHEMA_VERSION}")
    payloads, offset = [], start + length
    for size in header.sizes:
        payloads.append(body[offset : offset + size])
        offset += size
    if offset != len(body):
        raise JournalDamaged(f"{path.name} has {len(body) - offset} bytes too many")
    return Record(header, payloads, digest.hex())


def finished_numbers(headers: Sequence[Header]) -> dict[str, list[int]]:
    """Outcome ("trained" or a drop reason) -> numbers, over all headers."""
    outcome: dict[str, list[int]] = {"trained": []}
    for header in headers:
        outcome["trained"] += header.trained
        for reason, numbers in header.dropped.items():
            outcome.setdefault(reason, []).extend(numbers)
    return outcome


@dataclass(frozen=True)
class Audit:
    """What the journal alone says of a job."""

    records: int
    steps: int
    trained: int
    dropped: dict[str, int]
    last_cursor: int
    trained_twice: list[int]
    missing: list[int]
    """Numbers below the last cursor that are neither trained nor dropped."""
    closed: bool

    @property
    def clean(self) -> bool:
        return not self.trained_twice and not self.missing


def audit(folder: Path) -> Audit:
    """Read the whole journal and nothing else. Raises JournalDamaged."""
    headers = list(Journal(folder).headers())
    outcome = finished_numbers(headers)
    seen: dict[int, int] = {}
    for numbers in outcome.values():
        for number in numbers:
            seen[number] = seen.get(number, 0) + 1
    cursor = max((header.cursor for header in headers), default=0)
    return Audit(
        records=len(headers),
        steps=sum(header.kind == "step" for header in headers),
        trained=len(outcome.pop("trained")),
        dropped={reason: len(numbers) for reason, numbers in outcome.items()},
        last_cursor=cursor,
        trained_twice=sorted(number for number, times in seen.items() if times > 1),
        missing=[number for number in range(cursor) if number not in seen],
        closed=any(header.kind == "close" for header in headers),
    )


def _pack(header: Header, payloads: Sequence[bytes]) -> bytes:
    text = json.dumps(asdict(header), sort_keys=True).encode()
    return b"".join([MAGIC, _LENGTH.pack(len(text)), text, *payloads])
