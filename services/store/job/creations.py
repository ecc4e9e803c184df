"""Remembers which create request made which job, so a request that is sent twice makes one job.

Invariant: the first to claim a fingerprint decides the job id, and all others learn it. A claim comes before the job,
so a repeat may find a claim without its job (the first attempt was cut off) and then makes the job itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from services.store import answers, keys
from services.store.client import Client


@dataclass(frozen=True)
class Claim:
    """The job id that a request stands for, and the hash of the body that claimed it."""

    job_id: str
    body_hash: str


class Creations:
    """Claims of create requests."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def claim(self, fingerprint: str, wanted: Claim, *, keep_seconds: int) -> Claim:
        """Claim the fingerprint for `keep_seconds`; returns the earlier claim if there is one, else `wanted`."""
        key = keys.created(fingerprint)
        if self._client.set(key, self._encode(wanted), ex=keep_seconds, nx=True):
            return wanted
        stands = self._client.get(key)
        return wanted if stands is None else Claim(*json.loads(answers.text(stands)))

    def replace(self, fingerprint: str, wanted: Claim, *, keep_seconds: int) -> None:
        """Claim the fingerprint anew, whatever stood."""
        self._client.set(keys.created(fingerprint), self._encode(wanted), ex=keep_seconds)

    @staticmethod
    def _encode(claim: Claim) -> str:
        return json.dumps([claim.job_id, claim.body_hash])
