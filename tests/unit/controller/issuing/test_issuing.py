"""What the dispatcher and the evaluation put into the streams: requeued letters first, and never too much at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.controller.closing import close_job
from services.controller.issuing import evaluation as evaluation_module
from services.controller.issuing.capacity import largest_group_bytes
from services.controller.issuing.dispatcher import Dispatcher
from services.controller.issuing.evaluation import Evaluation
from services.controller.issuing.supply import queued_groups
from services.disk.layout import Layout
from services.job.spec import EvaluationSpec, JobSpec
from services.store import keys
from services.store.client import Client
from services.store.job.jobs import Jobs
from services.store.job.steps import Evaluations
from services.store.job.transitions import Status
from services.trajectories import streams
from services.trajectories.codec import decode_task, encode, floats, ints, mask
from services.trajectories.dead.letters import DeadLetters
from services.trajectories.entries import (
    EVAL_PROMPTS,
    EVAL_SCORED,
    EVAL_TRAJECTORIES,
    EVALUATION_STREAMS,
    PROMPTS,
    SCORED,
    TRAJECTORIES,
    Entry,
)
from services.trajectories.ledger import Ledger
from services.trajectories.stage import Stage
from services.trajectories.stream_stats import stream_stats, verify_index
from services.trajectories.tallies import Tallies
from sspo_proto.trajectory_pb2 import Group, PromptTask, Reward, Sampling, Trajectory, VersionSpan
from tests.support.tiny import create_job, job_spec

JOB = "ftjob-1"


@pytest.fixture
def spec() -> JobSpec:
    found = job_spec(JOB, steps=10, batch_size=2)
    return found.model_copy(
        update={"evaluation": EvaluationSpec(samples=6, temperature=0.0), "validation_file": "file-2"}
    )


@pytest.fixture
def dispatcher(client: Client, tmp_path: Path, spec: JobSpec, model_and_rows: None) -> Dispatcher:
    create_job(client, spec)
    for status in (Status.QUEUED, Status.RUNNING):
        Jobs(client).transition(JOB, status, by="test")
    streams.prepare(client, JOB)
    return Dispatcher(spec, client, Layout(tmp_path))


def tasks(client: Client, name: str = PROMPTS) -> list[PromptTask]:
    return [decode_task(entry.payload) for entry in streams.read_after(client, JOB, name, "0", 9999)]


def requeue(client: Client, number: int) -> None:
    dead = DeadLetters(client)
    dead.put(JOB, Entry(f"{number + 1}-1", number, 0, b"\xff"), SCORED, "malformed", "")
    dead.requeue(JOB, dead.list(JOB)[0][0].id)


def test_requeued_letters_take_the_next_numbers_with_their_old_rows(client: Client, dispatcher: Dispatcher) -> None:
    assert dispatcher.dispatch(3, 0) == 3
    requeue(client, 1)
    requeue(client, 2)
    assert dispatcher.dispatch(0, 0) == 0 and len(DeadLetters(client).wishes(JOB, 9)) == 2, "nothing is needed now"
    assert dispatcher.dispatch(1, 0) == 1
    assert dispatcher.dispatch(2, 0) == 2
    found = tasks(client)
    assert [task.group_number for task in found] == list(range(6))
    assert [task.dataset_row for task in found[3:5]] == [found[1].dataset_row, found[2].dataset_row]
    assert len({task.sampling.seed for task in found}) == 6, "a seed of its own: what died may not die again"
    assert [letter.requeued_as for letter in DeadLetters(client).list(JOB)[0]] == [4, 3]
    assert Ledger(client).snapshot(JOB).balanced


def test_a_requeued_group_that_redis_lost_is_issued_again_with_the_same_row(
    client: Client, dispatcher: Dispatcher
) -> None:
    dispatcher.dispatch(2, 0)
    requeue(client, 0)
    dispatcher.dispatch(2, 0)
    before = [(task.group_number, task.dataset_row, task.sampling.seed) for task in tasks(client)]
    client.delete(keys.stream(JOB, PROMPTS))
    missing = Ledger(client).snapshot(JOB).missing
    assert dispatcher.reissue(missing, 0) == 4
    assert [(task.group_number, task.dataset_row, task.sampling.seed) for task in tasks(client)] == before


def test_the_end_of_a_job_clears_all_but_its_letters_and_counts_what_was_in_vain(
    client: Client, dispatcher: Dispatcher, tmp_path: Path
) -> None:
    dispatcher.dispatch(3, 0)
    stage = Stage(client, JOB, PROMPTS, TRAJECTORIES, "a")
    entry: Any = stage.take()
    assert stage.hand_over(entry, b"group", 0, sampled_tokens=11)
    requeue(client, 1)
    dispatcher.dispatch(1, 0)
    requeue(client, 2)
    for _ in range(2):
        close_job(client, Layout(tmp_path), JOB)
        assert Tallies(client).read(JOB).wasted_tokens == {"job_end": 11}
    left = {key.decode().removeprefix(keys.job(JOB)) for key in client.scan_iter(f"{keys.job(JOB)}:*")}
    assert not {name for name in left if "stream" in name} - {":stream:dead", ":stream:dead:index"}
    assert not left & {":wishes", ":origins"}
    assert len(DeadLetters(client).list(JOB)[0]) == 2
    assert Ledger(client).snapshot(JOB).dropped == {"job_end": 4}


def test_a_group_is_expected_as_large_as_those_before_or_those_that_lie(client: Client, dispatcher: Dispatcher) -> None:
    spec = job_spec(JOB)
    dispatcher.dispatch(4, 0)
    prompts = stream_stats(client, JOB)[PROMPTS].bytes
    queued = queued_groups(client, spec)
    assert (queued.bytes, queued.unsampled, queued.group_bytes) == (prompts, 4, largest_group_bytes(spec.rollout))
    stage = Stage(client, JOB, PROMPTS, TRAJECTORIES, "a")
    for size in (1000, 3000):
        entry: Any = stage.take()
        assert stage.hand_over(entry, b"g" * size, 0, sampled_tokens=1)
    queued = queued_groups(client, spec)
    assert (queued.unsampled, queued.group_bytes, queued.bytes) == (
        *(2, 2000),
        4000 + stream_stats(client, JOB)[PROMPTS].bytes,
    )
    reward = Stage(client, JOB, TRAJECTORIES, SCORED, "b")
    first: Any = reward.take()
    assert reward.hand_over(first, b"g" * 9000, 0)
    assert queued_groups(client, spec).group_bytes == 6000, "those that lie are larger than those before them"


def answer(client: Client, number: int, *, step: int = 4, reward: float | None = 1.0, **changes: Any) -> None:
    """What rollout and reward workers make of one evaluation prompt."""
    sampling = Sampling(group_size=1)
    task = PromptTask(
        **{"schema_version": 1, "job_id": JOB, "group_number": number, "evaluation_step": step, **changes},
        prompt_token_ids=ints([1]),
        sampling=sampling,
    )
    trajectory = Trajectory(
        completion_token_ids=ints([1]),
        behaviour_logprobs=floats([-1]),
        loss_mask=mask([1]),
        version_spans=[VersionSpan(version=1, start=0, end=1)],
        reward=None if reward is None else Reward(value=reward),
    )
    fields: dict[Any, Any] = {"job": JOB, "number": number, "step": 0}
    payload = encode(Group(schema_version=1, task=task, trajectories=[trajectory]))
    client.xadd(keys.stream(JOB, EVAL_SCORED), {**fields, "payload": payload})


def test_an_evaluation_issues_only_so_many_rows_at_once(
    client: Client, dispatcher: Dispatcher, spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_module, "MOST_ON_THE_WAY", 4)
    evaluation = Evaluation(client, spec, dispatcher)
    evaluation.tick(4)
    evaluation.tick(4)
    assert [task.group_number for task in tasks(client, EVAL_PROMPTS)] == [0, 1, 2, 3]
    answer(client, 2)
    evaluation.tick(4)
    assert [task.group_number for task in tasks(client, EVAL_PROMPTS)] == [0, 1, 2, 3, 4]
    for number in (0, 1, 3, 4):
        answer(client, number)
    evaluation.tick(4)
    answer(client, 5, reward=0.0)
    evaluation.tick(4)
    assert not evaluation.running
    [record] = Evaluations(client).list(JOB)
    assert (record.graded, record.missing, record.reward_mean) == (6, 0, pytest.approx(5 / 6))
    assert verify_index(client, JOB) == []


def test_rows_of_an_evaluation_that_redis_lost_are_issued_again(
    client: Client, dispatcher: Dispatcher, spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = Evaluation(client, spec, dispatcher)
    evaluation.tick(4)
    answer(client, 0)
    evaluation.tick(4)
    monkeypatch.setattr(evaluation_module, "LOOK_FOR_LOST_SECONDS", 0.0)
    evaluation.tick(4)
    assert len(tasks(client, EVAL_PROMPTS)) == 6, "what is on its way is not issued twice"
    streams.delete(client, JOB, EVALUATION_STREAMS)  # the tail of the append-only file that had them is gone
    evaluation.tick(4)
    assert [task.group_number for task in tasks(client, EVAL_PROMPTS)] == [1, 2, 3, 4, 5]
    for number in range(1, 6):
        answer(client, number)
    evaluation.tick(4)
    assert not evaluation.running and Evaluations(client).list(JOB)[0].graded == 6


def test_what_was_evaluated_on_undone_weights_is_evaluated_again(
    client: Client, dispatcher: Dispatcher, spec: JobSpec
) -> None:
    evaluation = Evaluation(client, spec, dispatcher)
    evaluation.tick(8)
    for number in range(6):
        answer(client, number, step=8)
    evaluation.tick(8)
    assert [record.step for record in Evaluations(client).list(JOB)] == [8]
    evaluation.tick(12)
    assert evaluation.running
    Evaluations(client).forget_after(JOB, 5)
    evaluation.tick(4, went_back=3)
    assert not evaluation.running and Evaluations(client).list(JOB) == []
    evaluation.tick(8, went_back=3)
    assert evaluation.running, "step 8 is other weights now"


def test_an_evaluation_waits_while_too_many_bytes_are_on_their_way(
    client: Client, dispatcher: Dispatcher, spec: JobSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_module, "MOST_ON_THE_WAY", 2)
    small = spec.model_copy(update={"learner": spec.learner.model_copy(update={"max_queued_bytes": 500})})
    evaluation = Evaluation(client, small, dispatcher)
    evaluation.tick(4)
    client.xadd(keys.stream(JOB, EVAL_TRAJECTORIES), {"payload": b"x" * 600})
    answer(client, 0)
    evaluation.tick(4)
    assert len(tasks(client, EVAL_PROMPTS)) == 2
    client.delete(keys.stream(JOB, EVAL_TRAJECTORIES))
    evaluation.tick(4)
    assert len(tasks(client, EVAL_PROMPTS)) == 3


def test_answers_that_are_none_are_buried_and_the_evaluation_ends(
    client: Client, dispatcher: Dispatcher, spec: JobSpec
) -> None:
    evaluation = Evaluation(client, spec, dispatcher)
    evaluation.tick(4)
    scored = keys.stream(JOB, EVAL_SCORED)
    bad: list[dict[Any, Any]] = [
        {"hello": "world"},
        {"job": JOB, "number": 77, "step": 0, "payload": b""},
        {"job": JOB, "number": 1, "step": 0, "payload": b"\xff"},
    ]
    for fields in bad:
        client.xadd(scored, fields)
    answer(client, 0, job_id="ftjob-other")
    answer(client, 2, reward=None)
    answer(client, 3, step=3)
    evaluation.tick(4)
    assert evaluation.running and client.xlen(scored) == 0
    for number in (3, 4, 5):
        answer(client, number)
    evaluation.tick(4)
    [record] = Evaluations(client).list(JOB)
    assert (record.graded, record.failed, record.missing) == (3, 3, 0)
    found, _ = DeadLetters(client).list(JOB)
    assert sorted(letter.number if letter.number is not None else -1 for letter in found) == [-1, 0, 1, 2, 77]
    assert {letter.found_in for letter in found} == {EVAL_SCORED} and EVAL_SCORED in EVALUATION_STREAMS
