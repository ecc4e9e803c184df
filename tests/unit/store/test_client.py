"""Calls of our scripts, and what names a run of Redis."""

from __future__ import annotations

import time

import pytest

from services.store import keys
from services.store.client import Client, CommandRefused, call, connect, reachable, run_of, script_source
from services.store.nodes import Nodes


def test_a_script_that_redis_does_not_know_is_loaded(client: Client) -> None:
    client.script_flush()
    assert call(client, "lease", ["lease"], ["me", 5]) == 1
    assert call(client, "lease", ["lease"], ["another", 5]) == 0


def test_what_a_script_refuses_is_raised(client: Client) -> None:
    client.set("lease", "me")
    client.lpush("list", "x")
    with pytest.raises(CommandRefused, match="WRONGTYPE"):
        call(client, "lease", ["list"], ["me", 5])


def test_shared_functions_are_put_into_the_scripts_that_ask_for_them() -> None:
    assert "-- include" not in script_source("finish") and "function remove_finished" in script_source("finish")


def test_a_run_of_redis_has_one_name(client: Client, redis_url: str) -> None:
    other = connect(redis_url)
    assert run_of(client) == run_of(other) and len(run_of(client)) == 40
    other.close()


def test_a_redis_that_answers_is_reachable_and_one_that_is_not_there_is_not(redis_url: str) -> None:
    assert reachable(redis_url)
    began = time.monotonic()
    assert not reachable("unix:///nowhere/redis.sock", timeout_seconds=0.5)
    assert time.monotonic() - began < 5, "one try"


def test_nodes_are_replaced_as_a_whole(client: Client) -> None:
    nodes = Nodes(client)
    assert nodes.list() == {}
    nodes.put({"10.0.0.1:9100": "one", "10.0.0.2:9100": "two"})
    nodes.put({"10.0.0.2:9100": "two"})
    assert nodes.list() == {"10.0.0.2:9100": "two"}
    nodes.put({})
    assert nodes.list() == {} and client.exists(keys.NODES) == 0
