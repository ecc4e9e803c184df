"""Every question that dashboards and alerts ask Prometheus, and the job during which each of them has an answer."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from deploy.monitoring.alerts import ALERTS
from deploy.monitoring.boards import DASHBOARDS
from deploy.monitoring.files import DASHBOARD_FOLDER
from tests.support.prometheus.server import SCRAPE_SECONDS
from tests.support.service import RunningService
from tests.support.waiting import wait_until

VARIABLES = {"$__rate_interval": f"{10 * SCRAPE_SECONDS}s", "$staleness": ".+"}
GPU_PANELS = {(board.uid, panel.title) for board in DASHBOARDS for panel in board.panels if panel.absent_without}
"""Without a GPU they have nothing to show."""
JOB = {
    "learner": {
        "batch_size": 8,
        "updates_per_step": 2,
        "learning_rate": 1e-4,
        "max_staleness": 2,
        "steps": 5000,
        "checkpoint_every": 10,
    }
}
"""What the demo's job is changed into: it is cancelled long before its last step."""

Answers = dict["Question", list[dict[str, Any]]]


@dataclass(frozen=True)
class Question:
    """One expression and where it is asked."""

    where: str
    title: str
    expression: str


def questions(job_id: str) -> Iterator[Question]:
    """Every query of every panel, and what every alert measures; as Grafana and Prometheus would ask it for one job."""
    for board in DASHBOARDS:
        shipped = json.loads((DASHBOARD_FOLDER / f"{board.uid}.json").read_text())
        for panel in shipped["panels"]:
            for target in panel.get("targets", ()):
                yield Question(board.uid, panel["title"], _filled_in(target["expr"], job_id))
        if board is DASHBOARDS[0]:
            for one in shipped["annotations"]["list"]:
                yield Question("annotation", one["name"], _filled_in(one["expr"], job_id))
    for alert in ALERTS:
        yield Question("alert", alert.name, alert.measured)


def _filled_in(expression: str, job_id: str) -> str:
    for name, value in {**VARIABLES, "$job": job_id}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def values(series: list[dict[str, Any]]) -> list[float]:
    """All finite values of an answer."""
    found = [float(value) for one in series for _, value in one["values"]]
    return [value for value in found if math.isfinite(value)]


def may_be_empty(question: Question) -> bool:
    """Panels of GPUs; and no alert fires for a healthy job."""
    return (question.where, question.title) in GPU_PANELS or (question.where, question.title) == ("annotation", "alert")


def unanswered(answers: Answers) -> list[Question]:
    """Questions without a single number that should have one."""
    return [question for question, series in answers.items() if not values(series) and not may_be_empty(question)]


def table(answers: Answers) -> str:
    """One line a question: where, title, series, finite values."""
    lines = [f"{'where':<16} {'panel':<46} {'series':>6} {'values':>7}"]
    for question, series in answers.items():
        lines.append(f"{question.where:<16} {question.title:<46} {len(series):>6} {len(values(series)):>7}")
    return "\n".join(lines)


def scale_up_and_down(
    service: RunningService, job_id: str, seconds: float, scale: Callable[[int], None] | None = None
) -> None:
    """One rollout worker, two of them, one again; on the way a reward worker dies and is replaced.

    `scale` asks for so many rollout workers, by REST if nothing else is given.
    """
    scale = scale or (lambda replicas: service.scale(job_id, "rollout", replicas))

    def at_work() -> int:
        """Rollout workers that have weights; one that loads the next ones is among them."""
        return sum(len(service.workers(job_id, "rollout", state)) for state in ("ready", "syncing"))

    service.wait_for(job_id, lambda view: view["step"] >= 3, 180)
    scale(2)
    [reward] = service.workers(job_id, "reward")
    os.kill(int(reward["pid"]), signal.SIGKILL)
    wait_until(lambda: at_work() == 2, 180)
    wait_until(lambda: {one["id"] for one in service.workers(job_id, "reward")} - {reward["id"]}, 90)
    time.sleep(seconds)
    scale(1)
    wait_until(lambda: len(service.view(job_id)["workers"]) == 3, 90)
    time.sleep(3 * SCRAPE_SECONDS)
