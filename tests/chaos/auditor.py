"""What became of every group of a job, from its journal folder alone.

The bytes are read here once more, without the journal's own code: magic, header, hash, chain, groups. Its findings have
to agree with `tests.support.audit`, and with the promise: nothing lost, nothing trained twice, versions only grow, no
group older than allowed.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.trajectories.codec import decode_group
from tests.support.audit import audit

MAGIC = b"SSPOJ2\n\0"
HASH_BYTES = 32
CUTS = ("skip", "rollback")


@dataclass(frozen=True)
class Finding:
    """What the auditor found. `wrong` is empty when the promise was kept."""

    records: int = 0
    steps: int = 0
    trained: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    trained_twice: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RawRecord:
    """One file of the journal. `groups` is empty where they were pruned."""

    header: dict[str, Any]
    hash: str
    groups: list[bytes]


def inspect(journal: Path, *, steps: int, batch_size: int, max_staleness: int, allowed_drops: Sequence[str]) -> Finding:
    """Audit the journal of a job that ended well. Raises ValueError for a file that is no record."""
    records = [read(path) for path in sorted(journal.glob("*.rec"))]
    headers = [record.header for record in records]
    wrong = [*_chain(records), *_versions(records, max_staleness)]
    outcomes, survivors = _outcomes(headers)
    trained = sum("trained" in what for what in outcomes.values())
    twice = [number for number, what in outcomes.items() if len(what) > 1]
    cursor = max((header["cursor"] for header in headers), default=0)
    lost = [number for number in range(cursor) if number not in outcomes]
    dropped = Counter(reason for what in outcomes.values() for reason in what if reason != "trained")
    if twice:
        wrong.append(f"{len(twice)} numbers have more than one outcome: {twice[:5]}")
    if lost:
        wrong.append(f"{len(lost)} numbers are lost: {lost[:5]}")
    if len(survivors) != steps or trained != steps * batch_size:
        wrong.append(f"{len(survivors)} steps and {trained} groups were trained, expected {steps} x {batch_size}")
    if surprising := sorted(set(dropped) - set(allowed_drops)):
        wrong.append(f"dropped for {surprising}, which nobody injected: {dict(dropped)}")
    if not headers or headers[-1]["kind"] != "close":
        wrong.append("the journal is not closed")
    own = audit(journal)
    if not own.clean or (own.steps, own.trained, own.dropped) != (len(survivors), trained, dict(dropped)):
        wrong.append(f"the journal's own audit disagrees: {own}")
    return Finding(len(records), len(survivors), trained, dict(dropped), len(lost), len(twice), wrong)


def read(path: Path) -> RawRecord:
    """One record, with all hashes checked. Raises ValueError."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    end = len(MAGIC) + 4 + length
    digest, body = data[end : end + HASH_BYTES], data[end + HASH_BYTES :]
    if not data.startswith(MAGIC) or hashlib.sha256(data[:end]).digest() != digest:
        raise ValueError(f"{path.name}: not a record, or its hash is wrong")
    header = json.loads(data[end - length : end])
    if not body:
        return RawRecord(header, digest.hex(), [])
    if sum(header["sizes"]) != len(body) or hashlib.sha256(body).hexdigest() != header["payload_hash"]:
        raise ValueError(f"{path.name}: its groups are not what its header says")
    groups, at = [], 0
    for size in header["sizes"]:
        groups.append(body[at : at + size])
        at += size
    return RawRecord(header, digest.hex(), groups)


def _chain(records: Sequence[RawRecord]) -> list[str]:
    wrong, previous, epoch = [], "", 0
    for at, record in enumerate(records):
        header = record.header
        if header["sequence"] != at or header["previous"] != previous:
            wrong.append(f"record {header['sequence']} at place {at} does not follow the one before it")
        if header["epoch"] < epoch:
            wrong.append(f"record {at} is of epoch {header['epoch']}, after one of epoch {epoch}")
        previous, epoch = record.hash, header["epoch"]
    return wrong


def _versions(records: Sequence[RawRecord], max_staleness: int) -> list[str]:
    """Versions only grow; no token names a version that was not published before its group was trained."""
    wrong, newest = [], 0
    steps: dict[int, int] = {}
    for record in records:
        header = record.header
        if header["kind"] != "close" and header["policy_version"] < newest:
            wrong.append(f"record {header['sequence']}: policy version {header['policy_version']} after {newest}")
        newest = max(newest, header["policy_version"])
        for number, payload in zip(header["trained"], record.groups, strict=False):
            spans = [span for one in decode_group(payload).trajectories for span in one.version_spans]
            if max(span.version for span in spans) > newest:
                wrong.append(f"group {number} names a version newer than {newest}")
            if header["step"] - min(span.step for span in spans) > max_staleness:
                wrong.append(f"group {number} was trained at step {header['step']} and is too old")
            for span in spans:
                if steps.setdefault(span.version, span.step) != span.step:
                    wrong.append(f"version {span.version} is of step {span.step} and of {steps[span.version]}")
    ordered = [steps[version] for version in sorted(steps)]
    if ordered != sorted(ordered) and not any(record.header["kind"] in CUTS for record in records):
        wrong.append(f"steps of versions do not grow: {ordered}")
    return wrong


def _outcomes(headers: Sequence[dict[str, Any]]) -> tuple[dict[int, list[str]], list[dict[str, Any]]]:
    """Number -> its outcomes, of which there must be one; and the step records that no cut has undone."""
    outcomes: dict[int, list[str]] = {}
    survivors: list[dict[str, Any]] = []
    for header in headers:
        if header["kind"] in CUTS:
            for undone in survivors[header["step"] :]:
                for number in undone["trained"]:
                    outcomes[number].remove("trained")
            del survivors[header["step"] :]
        if header["kind"] == "step":
            survivors.append(header)
        for number in header["trained"]:
            outcomes.setdefault(number, []).append("trained")
        for reason, numbers in header["dropped"].items():
            for number in numbers:
                outcomes.setdefault(number, []).append(reason)
    return outcomes, survivors
