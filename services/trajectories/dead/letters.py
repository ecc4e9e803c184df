"""Dead letters: messages nobody could read, kept for people, and the wish to have one issued anew.

A letter is a copy; the ledger holds the fate of its group. A requeue is a wish to issue the prompt of the letter's
dataset row under a new number. Only the dispatcher gives numbers, and it fulfils wishes before it issues new rows. A
requeued group is one of the groups that the remaining steps need, so a late wish may stay unfulfilled when the job
ends.
"""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.job.strict_json import JsonObject
from services.store import answers, keys
from services.store.client import Client, call
from services.store.index import UnknownCursor
from services.store.job.jobs import JobNotFound
from services.store.job.transitions import ENDED, IllegalTransition, Status
from services.trajectories.dead.form import Wish, letter_arguments, letter_keys
from services.trajectories.dead.summary import summarise
from services.trajectories.entries import DEAD, NO_NUMBER, TRAINING_STREAMS, Entry, read_entry
from services.trajectories.stream_stats import pairs

PREFIX = "letter-"
_ID = re.compile(r"letter-(\d{1,19}-\d{1,19})")


class LetterNotFound(KeyError):
    """No letter has this id: it never had, or had to make room for newer ones."""

    def __init__(self, letter_id: str) -> None:
        super().__init__(letter_id)
        self.letter_id = letter_id

    def __str__(self) -> str:
        return f"no dead letter {self.letter_id!r}"


class NotRequeueable(Exception):
    """A letter without a number that was issued to train on: there is no prompt to issue anew."""

    def __init__(self, letter_id: str) -> None:
        super().__init__(f"dead letter {letter_id!r} names no group that was issued for training")
        self.letter_id = letter_id


@dataclass(frozen=True)
class Letter:
    """One letter, without its payload. `created_at` in seconds since the epoch."""

    id: str
    number: int | None
    """None: it names none."""
    found_in: str
    """The stream whose consumer could not read it."""
    reason: str
    detail: str
    bytes: int
    """Of the payload as it came; what is kept of it is bounded."""
    created_at: float
    requeue_wanted: bool
    """Somebody wants it issued anew, or had it so."""
    requeued_as: int | None
    """The number it was issued under; None while the wish waits, or without one."""


class DeadLetters:
    """The letters of all jobs. Reading goes on after a job's end."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def put(self, job_id: str, entry: Entry, found_in: str, reason: str, detail: str) -> bool:
        """Keep a copy of an entry of a stream without consumer group, once, however often it is put.

        True: its number ends with this entry, which stays in the stream until the number is finished. False: it was
        removed, and no number ends (it names none that was issued, a finished one, or one that another entry carries).
        """
        source = pairs(job_id, [found_in])
        key_list = [*letter_keys(job_id), *source, keys.finished(job_id), keys.cursor(job_id)]
        ledgered = "1" if found_in in TRAINING_STREAMS else "0"
        arguments = [*letter_arguments(job_id, entry, found_in, reason, detail), ledgered]
        return bool(call(self._client, "bury_read", [*key_list, *pairs(job_id, TRAINING_STREAMS)], arguments))

    def list(self, job_id: str, *, after: str | None = None, limit: int = 20) -> tuple[builtins.list[Letter], bool]:
        """A page, newest first, of the letters before `after`; and whether there are more. Raises UnknownCursor."""
        newest = "+"
        if after is not None:
            if (match := _ID.fullmatch(after)) is None:
                raise UnknownCursor(after)
            newest = f"({match[1]}"
        rows = call(self._client, "letters_page", [keys.stream(job_id, DEAD)], [newest, limit + 1])
        requeues = answers.fields(self._hash(keys.requeues(job_id)))
        letters = [
            _letter(answers.text(entry_id), dict(zip(flat[::2], flat[1::2], strict=True)), requeues)
            for entry_id, flat in rows
        ]
        return letters[:limit], len(letters) > limit

    def get(self, job_id: str, letter_id: str) -> tuple[Letter, JsonObject]:
        """One letter, and what of its payload can be shown. Raises LetterNotFound."""
        position = _position(letter_id)
        rows: Any = self._client.xrange(keys.stream(job_id, DEAD), min=position, max=position)
        if not rows:
            raise LetterNotFound(letter_id)
        [(_, fields)] = rows
        letter = _letter(position, fields, answers.fields(self._hash(keys.requeues(job_id))))
        payload = fields.get(b"payload", b"")
        return letter, {"kept_bytes": len(payload), **summarise(payload, letter.found_in)}

    def requeue(self, job_id: str, letter_id: str) -> Letter:
        """Wish for its prompt to be issued anew; asking again changes nothing and answers the first wish's letter.

        Raises LetterNotFound, JobNotFound, NotRequeueable, and IllegalTransition for a job that has ended.
        """
        position = _position(letter_id)
        key_list = [keys.job(job_id), keys.stream(job_id, DEAD), keys.requeues(job_id)]
        key_list += [keys.wishes(job_id), keys.cursor(job_id)]
        arguments = [json.dumps(sorted(ENDED)), position, json.dumps(TRAINING_STREAMS)]
        outcome, detail = answers.texts(call(self._client, "requeue", key_list, arguments))
        match outcome:
            case "missing":
                raise JobNotFound(job_id)
            case "unknown":
                raise LetterNotFound(letter_id)
            case "unnumbered":
                raise NotRequeueable(letter_id)
            case "ended":
                raise IllegalTransition(job_id, Status(detail), "requeuing a dead letter")
        return self.get(job_id, letter_id)[0]

    def wishes(self, job_id: str, limit: int) -> builtins.list[Wish]:
        """The wishes that wait, first come first: for the dispatcher."""
        texts = answers.texts(self._client.lrange(keys.wishes(job_id), 0, limit - 1)) if limit > 0 else []
        named = [(letter, int(number)) for letter, number in (text.split(" ") for text in texts)]
        return [Wish(letter, number, self.origin(job_id, number)) for letter, number in named]

    def origin(self, job_id: str, number: int) -> int:
        """The number whose dataset row a group has: its own, unless it was requeued."""
        stored: Any = self._client.hget(keys.origins(job_id), str(number))
        return number if stored is None else int(stored)

    def _hash(self, key: str) -> Any:
        return self._client.hgetall(key)


def _position(letter_id: str) -> str:
    match = _ID.fullmatch(letter_id)
    if match is None:
        raise LetterNotFound(letter_id)
    return match[1]


def _letter(position: str, fields: Mapping[bytes, bytes], requeues: Mapping[str, str]) -> Letter:
    def text(name: bytes) -> str:
        return fields.get(name, b"").decode(errors="replace")

    entry = read_entry("", position, fields)
    size = text(b"bytes")
    new_number = requeues.get(position)
    return Letter(
        id=PREFIX + position,
        number=None if entry.number == NO_NUMBER else entry.number,
        found_in=text(b"found_in"),
        reason=text(b"reason"),
        detail=text(b"detail"),
        bytes=int(size) if size.isdecimal() else len(entry.payload),
        created_at=int(position.split("-")[0]) / 1000,
        requeue_wanted=new_number is not None,
        requeued_as=int(new_number) if new_number else None,
    )
