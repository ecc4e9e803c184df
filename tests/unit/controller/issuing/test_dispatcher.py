"""What a prompt says: the row of its number by a permutation of each epoch, a seed of its own, the job's settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from services.controller.issuing.dispatcher import Dispatcher
from services.disk.layout import Layout
from services.job.datasets import Row
from services.job.spec import EvaluationSpec, JobSpec
from services.store.client import Client
from services.trajectories import streams
from services.trajectories.codec import decode_task, read_ints
from services.trajectories.entries import EVAL_PROMPTS, PROMPTS
from sspo_proto.trajectory_pb2 import PromptTask
from tests.support.tiny import create_job, job_spec

pytestmark = pytest.mark.usefixtures("model_and_rows")

JOB = "ftjob-1"
ROWS = 12


@pytest.fixture
def rows() -> list[Row]:
    return [Row(number, ({"role": "user", "content": str(number)},), {"n": number}) for number in range(ROWS)]


def spec_of(job_id: str = JOB, **changes: Any) -> JobSpec:
    evaluation = {"evaluation": EvaluationSpec(samples=5, temperature=0.25), "validation_file": "file-2"}
    return job_spec(job_id, steps=20).model_copy(update=evaluation | changes)


def dispatcher_of(client: Client, root: Path, spec: JobSpec) -> Dispatcher:
    create_job(client, spec)
    streams.prepare(client, spec.job_id)
    return Dispatcher(spec, client, Layout(root))


def tasks(client: Client, job_id: str = JOB, name: str = PROMPTS) -> list[PromptTask]:
    return [decode_task(entry.payload) for entry in streams.read_after(client, job_id, name, "0", 9999)]


def order(client: Client, root: Path, spec: JobSpec, epochs: int = 2) -> list[int]:
    """Rows in the order in which a job issues them."""
    dispatcher_of(client, root, spec).dispatch(epochs * ROWS, 0)
    return [task.dataset_row for task in tasks(client, spec.job_id)]


def test_each_epoch_has_every_row_once_in_an_order_of_its_own(client: Client, tmp_path: Path) -> None:
    found = order(client, tmp_path, spec_of())
    first, second = found[:ROWS], found[ROWS:]
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert first != sorted(first), "a file that is sorted by difficulty must not be trained in that order"
    assert first != second


def test_the_order_follows_from_the_seed(client: Client, tmp_path: Path) -> None:
    same, again, other = (
        order(client, tmp_path, spec_of(f"ftjob-{name}", seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert same == again != other


def test_a_dispatcher_that_starts_in_the_middle_goes_on_in_the_same_order(client: Client, tmp_path: Path) -> None:
    whole = order(client, tmp_path, spec_of("ftjob-a"))
    first = dispatcher_of(client, tmp_path, spec_of())
    first.dispatch(5, 0)
    second = Dispatcher(spec_of(), client, Layout(tmp_path))
    assert second.dispatch(2 * ROWS - 5, 0) == 2 * ROWS - 5
    assert [task.dataset_row for task in tasks(client)] == whole


def test_a_prompt_says_what_the_job_asks_for(client: Client, tmp_path: Path) -> None:
    spec = spec_of()
    dispatcher_of(client, tmp_path, spec).dispatch(3, 4)
    found = tasks(client)
    assert [task.group_number for task in found] == [0, 1, 2]
    assert len({task.sampling.seed for task in found}) == 3
    for task in found:
        assert (task.job_id, task.issued_step, task.evaluation_step) == (JOB, 4, 0)
        assert read_ints(task.prompt_token_ids).tolist() == [task.dataset_row]
        assert json.loads(task.item_json) == {"n": task.dataset_row}
        asked = (task.sampling.temperature, task.sampling.max_tokens, task.sampling.group_size)
        assert asked == (spec.rollout.temperature, spec.rollout.max_tokens, spec.rollout.group_size)
        assert list(task.sampling.stop_token_ids) == [2]
    assert [entry.step for entry in streams.read_after(client, JOB, PROMPTS, "0")] == [4, 4, 4]


def test_an_evaluation_asks_the_first_rows_of_its_file_once_each(client: Client, tmp_path: Path) -> None:
    dispatcher = dispatcher_of(client, tmp_path, spec_of())
    assert dispatcher.validation_rows == 5
    dispatcher.evaluate(8, range(2))
    dispatcher.evaluate(8, [4])
    found = tasks(client, name=EVAL_PROMPTS)
    assert [(task.group_number, task.dataset_row, task.evaluation_step) for task in found] == [
        *((0, 0, 8), (1, 1, 8), (4, 4, 8)),
    ]
    assert {(task.sampling.temperature, task.sampling.group_size) for task in found} == {(0.25, 1)}
    assert len({task.sampling.seed for task in found}) == 3
    assert tasks(client) == [], "nothing of it is trained on"
    assert streams.cursor(client, JOB) == 0


def test_without_a_validation_file_there_is_nothing_to_evaluate(client: Client, tmp_path: Path) -> None:
    assert dispatcher_of(client, tmp_path, spec_of(evaluation=None)).validation_rows == 0
    assert dispatcher_of(client, tmp_path, spec_of("ftjob-2", validation_file=None)).validation_rows == 0


def test_what_two_dispatchers_issue_is_issued_once(client: Client, tmp_path: Path) -> None:
    """A controller that lost its lease may still be at it."""
    spec = spec_of()
    dispatcher = dispatcher_of(client, tmp_path, spec)
    other, issue = Dispatcher(spec, client, Layout(tmp_path)), dispatcher._task

    def meanwhile(number: int, step: int, *, origin: int) -> bytes:
        if number == 2:
            other.dispatch(1, step)
        return issue(number, step, origin=origin)

    dispatcher._task = meanwhile  # type: ignore[method-assign]
    assert dispatcher.dispatch(6, 0) == 2, "the third was issued by the other one"
    assert [task.group_number for task in tasks(client)] == [0, 1, 2]
