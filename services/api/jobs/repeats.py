"""Create requests that arrive twice.

The OpenAI SDK repeats a POST after a time-out or a 5xx without any idempotency key; the repeat differs by its
`x-stainless-retry-count` only. Other clients send `Idempotency-Key`. In both cases the repeat gets the job that the
first request made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from services.api.errors import ApiError, bad_request
from services.job.strict_json import JsonObject
from services.store.job.creations import Claim, Creations

RETRY_WINDOW_SECONDS = 1_200
"""Above the SDK's own time-out of 600 s, after which it repeats."""
KEY_KEPT_SECONDS = 86_400
MAX_KEY_CHARACTERS = 255


def job_id_for(creations: Creations, headers: Mapping[str, str], body: JsonObject, new_id: str) -> str:
    """The id of the job that this request stands for: `new_id`, or the id its first attempt was given.

    Raises ApiError (409) for an idempotency key that came with another body before.
    """
    body_hash = _digest(json.dumps(body, sort_keys=True, separators=(",", ":")))
    wanted = Claim(new_id, body_hash)
    key = headers.get("idempotency-key")
    if key is not None:
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
            raise bad_request("Idempotency-Key", f"Idempotency-Key has 1 to {MAX_KEY_CHARACTERS} characters")
        claim = creations.claim(_digest(f"key {key}"), wanted, keep_seconds=KEY_KEPT_SECONDS)
        if claim.body_hash != body_hash:
            message = "This Idempotency-Key was used with another body"
            raise ApiError(409, message, code="idempotency_key_reused", param="Idempotency-Key")
        return claim.job_id
    fingerprint = _digest(f"body {body_hash}")
    if headers.get("x-stainless-retry-count", "0") == "0":
        creations.replace(fingerprint, wanted, keep_seconds=RETRY_WINDOW_SECONDS)
        return new_id
    return creations.claim(fingerprint, wanted, keep_seconds=RETRY_WINDOW_SECONDS).job_id


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
