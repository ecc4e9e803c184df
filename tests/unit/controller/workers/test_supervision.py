"""When a death is one too many."""

from __future__ import annotations

from services.controller.workers.supervision import MAX_DEATHS, Supervision


def deaths(supervision: Supervision, progress: int, count: int) -> list[bool]:
    return [supervision.death("learner", progress) for _ in range(count)]


def test_deaths_without_progress_add_up() -> None:
    assert deaths(Supervision(), 7, MAX_DEATHS) == [False] * (MAX_DEATHS - 1) + [True]


def test_progress_forgives_and_so_does_a_rollback() -> None:
    supervision = Supervision()
    for progress in (1000, 1001, 500, 501):  # a rollback took it from 1,001 steps to 500
        assert not any(deaths(supervision, progress, MAX_DEATHS - 1))


def test_kinds_are_counted_apart() -> None:
    supervision = Supervision()
    deaths(supervision, 0, MAX_DEATHS - 1)
    assert not supervision.death("rollout", 0)
