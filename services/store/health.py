"""Whether Redis answers right now: one try with a short time-out, unlike a client's patient commands."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def reachable(url: str, timeout_seconds: float = 1.0) -> bool:
    """True when Redis answers a PING in time."""
    client = redis.Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
