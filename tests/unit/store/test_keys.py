"""Keys: no two things share one, and all of a job's lie in one slot of a cluster, so that one Lua call may use them."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from services.store import keys


def named() -> dict[str, Callable[..., str]]:
    found = inspect.getmembers(keys, inspect.isfunction)
    return {name: function for name, function in found if function.__module__ == keys.__name__}


def test_no_two_things_share_a_key() -> None:
    seen: dict[str, str] = {}
    for name, function in named().items():
        for first in ("one", "other"):
            for second in ("x", "y") if len(inspect.signature(function).parameters) == 2 else ("",):
                key = function(first, second) if second else function(first)
                assert key.startswith(f"{keys.PREFIX}:") and first in key and second in key
                assert key not in seen, f"{name} and {seen.get(key)}"
                seen[key] = name


def test_all_keys_of_a_job_are_in_its_slot() -> None:
    of_a_job = [
        function("ftjob-1", "prompts") if "name" in inspect.signature(function).parameters else function("ftjob-1")
        for function in named().values()
        if "job_id" in inspect.signature(function).parameters
    ]
    assert len(of_a_job) > 15 and all(key.startswith(keys.job("ftjob-1")) for key in of_a_job)
    assert "{ftjob-1}" in keys.job("ftjob-1")
