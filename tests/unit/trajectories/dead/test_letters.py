"""Dead letters: kept once, bounded, shown without being trusted, and issued anew under a number of their own."""

from __future__ import annotations

from typing import Any

import pytest

from services.store import keys
from services.store.client import Client
from services.store.index import UnknownCursor
from services.store.job.jobs import JobNotFound, Jobs
from services.store.job.transitions import IllegalTransition, Status
from services.trajectories import streams
from services.trajectories.codec import encode, floats, ints
from services.trajectories.dead import form
from services.trajectories.dead.letters import DeadLetters, LetterNotFound, NotRequeueable
from services.trajectories.entries import DEAD, EVAL_SCORED, PROMPTS, SCORED, TRAJECTORIES, Entry
from services.trajectories.ledger import Ledger
from services.trajectories.progress import Progress
from services.trajectories.stage import Stage
from services.trajectories.stream_stats import stream_stats, verify_index
from services.trajectories.tallies import Tallies
from sspo_proto.trajectory_pb2 import Group, PromptTask, Reward, Sampling, Trajectory
from tests.support.tiny import create_job, job_spec

JOB = "ftjob-1"


def bury(client: Client, number: int, payload: bytes = b"\xff\xff", found_in: str = SCORED) -> str:
    """One letter; answers its id."""
    entry = Entry(f"{number + 1}-0", number, 0, payload, tokens=3)
    DeadLetters(client).put(JOB, entry, found_in, "malformed", f"detail {number}")
    return DeadLetters(client).list(JOB)[0][0].id


@pytest.fixture
def running(client: Client) -> Client:
    create_job(client, job_spec(JOB))
    streams.prepare(client, JOB)
    for status in (Status.QUEUED, Status.RUNNING):
        Jobs(client).transition(JOB, status, by="test")
    for number in range(3):
        assert streams.dispatch(client, JOB, number, b"task", 0)
    return client


def test_letters_are_listed_newest_first_in_pages(client: Client) -> None:
    ids = [bury(client, number) for number in range(5)][::-1]
    letters_, more = DeadLetters(client).list(JOB, limit=2)
    assert [letter.id for letter in letters_] == ids[:2] and more
    assert (letters_[0].number, letters_[0].found_in, letters_[0].reason, letters_[0].detail, letters_[0].bytes) == (
        *(4, SCORED, "malformed", "detail 4"),
        2,
    )
    rest, more = DeadLetters(client).list(JOB, after=ids[1], limit=3)
    assert [letter.id for letter in rest] == ids[2:] and not more
    with pytest.raises(UnknownCursor):
        DeadLetters(client).list(JOB, after="letter-x")


def test_the_same_entry_is_kept_once(client: Client) -> None:
    assert bury(client, 1) == bury(client, 1)
    assert client.xlen(keys.stream(JOB, DEAD)) == 1
    assert Tallies(client).read(JOB).dead_letters == {"malformed": 1}
    bury(client, 1, found_in=TRAJECTORIES)
    assert client.xlen(keys.stream(JOB, DEAD)) == 2, "the same id in another stream is another entry"


def test_the_oldest_letters_make_room_by_count_and_bytes(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "MOST_LETTERS", 3)
    first = bury(client, 0)
    for number in range(1, 5):
        bury(client, number)
    assert [letter.number for letter in DeadLetters(client).list(JOB)[0]] == [4, 3, 2]
    monkeypatch.setattr(form, "MOST_LETTER_BYTES", 100)
    bury(client, 5, b"x" * 97)
    assert [letter.number for letter in DeadLetters(client).list(JOB)[0]] == [5, 4]
    assert Tallies(client).read(JOB).forgotten_letters == 4
    assert stream_stats(client, JOB)[DEAD].bytes == 99 and verify_index(client, JOB) == []
    with pytest.raises(LetterNotFound):
        DeadLetters(client).get(JOB, first)


def test_of_a_large_payload_the_beginning_is_kept(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(form, "MAX_KEPT_BYTES", 10)
    letter, payload = DeadLetters(client).get(JOB, bury(client, 0, bytes(range(200, 256))))
    assert letter.bytes == 56 and payload["kept_bytes"] == 10
    assert payload["first_bytes"] == bytes(range(200, 210)).hex() and payload["message"] is None


def test_what_can_be_decoded_is_shown(client: Client) -> None:
    sampling = Sampling(temperature=float("inf"), max_tokens=5, group_size=2)
    task = PromptTask(
        schema_version=9,
        job_id=JOB,
        group_number=4,
        prompt_token_ids=ints([1, 2]),
        item_json="x" * 5000,
        sampling=sampling,
    )
    task.item_json = "x" * 5000
    shown = DeadLetters(client).get(JOB, bury(client, 0, encode(task), PROMPTS))[1]["message"]
    assert (shown["schema_version"], shown["group_number"], shown["prompt_tokens"]) == (9, 4, 2)
    assert len(shown["item_json"]) == 1000
    one = Trajectory(
        completion_token_ids=ints([1, 2, 3]),
        behaviour_logprobs=floats([0]),
        reward=Reward(value=2),
    )
    group = Group(schema_version=1, task=task, trajectories=[one] * 20)
    shown = DeadLetters(client).get(JOB, bury(client, 1, encode(group)))[1]["message"]
    assert shown["task"]["group_size"] == 2 and shown["failure"] is None and shown["trajectories_total"] == 20
    assert len(shown["trajectories"]) == 16
    assert shown["trajectories"][0] == {
        **{"completion_tokens": 3, "logprobs": 1, "versions": [], "stop_reason": "", "reward": 2.0},
    }


def test_what_strangers_write_into_dead_is_shown_too(client: Client) -> None:
    client.xadd(keys.stream(JOB, DEAD), {"hello": "world"})
    client.xadd(keys.stream(JOB, DEAD), {"number": b"\xff", "bytes": "many", "reason": b"\xff"})
    found, _ = DeadLetters(client).list(JOB)
    assert [(letter.number, letter.bytes) for letter in found] == [(None, 0), (None, 0)]
    assert DeadLetters(client).get(JOB, found[0].id)[1]["message"] is None
    bury(client, 1)
    assert len(DeadLetters(client).list(JOB)[0]) == 3


def test_a_requeued_letter_gets_the_next_number_once(running: Client) -> None:
    dead = DeadLetters(running)
    letter_id = bury(running, 1)
    wanted = dead.requeue(JOB, letter_id)
    assert (wanted.requeue_wanted, wanted.requeued_as) == (True, None)
    assert dead.requeue(JOB, letter_id) == wanted
    [wish] = dead.wishes(JOB, 9)
    assert (wish.number, wish.origin) == (1, 1)
    assert not streams.dispatch(running, JOB, 2, b"task", 0, wish), "not the cursor"
    assert streams.dispatch(running, JOB, 3, b"task", 0, wish)
    assert not streams.dispatch(running, JOB, 4, b"task", 0, wish), "no wish waits any more"
    assert dead.wishes(JOB, 9) == [] and dead.requeue(JOB, letter_id).requeued_as == 3
    assert dead.list(JOB)[0][0].requeued_as == 3
    assert Ledger(running).snapshot(JOB).issued == 4


def test_the_row_of_a_group_that_is_requeued_again_is_that_of_the_first(running: Client) -> None:
    dead = DeadLetters(running)
    for died in (1, 3):
        dead.requeue(JOB, bury(running, died))
        [wish] = dead.wishes(JOB, 9)
        assert wish.origin == 1
        assert streams.dispatch(running, JOB, streams.cursor(running, JOB), b"task", 0, wish)
    assert [dead.origin(JOB, number) for number in range(5)] == [0, 1, 2, 1, 1]


@pytest.mark.parametrize(("number", "found_in"), [(-1, SCORED), (3, SCORED), (1, EVAL_SCORED)])
def test_what_names_no_issued_group_is_not_requeued(running: Client, number: int, found_in: str) -> None:
    letter_id = bury(running, number, found_in=found_in)
    with pytest.raises(NotRequeueable, match=letter_id):
        DeadLetters(running).requeue(JOB, letter_id)
    assert DeadLetters(running).wishes(JOB, 9) == []


def test_nothing_is_requeued_for_a_job_that_has_ended(running: Client) -> None:
    dead, letter_id = DeadLetters(running), bury(running, 1)
    issued = bury(running, 2)
    dead.requeue(JOB, issued)
    assert streams.dispatch(running, JOB, 3, b"task", 0, dead.wishes(JOB, 1)[0])
    Jobs(running).transition(JOB, Status.FAILED, by="test")
    with pytest.raises(IllegalTransition, match="failed"):
        dead.requeue(JOB, letter_id)
    assert dead.requeue(JOB, issued).requeued_as == 3, "what was issued before stays so"
    with pytest.raises(LetterNotFound):
        dead.requeue(JOB, "letter-1-1")
    with pytest.raises(JobNotFound):
        dead.requeue("ftjob-none", letter_id)


def test_a_letter_that_made_room_is_still_issued_and_leaves_nothing(
    running: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = DeadLetters(running)
    dead.requeue(JOB, bury(running, 1))
    monkeypatch.setattr(form, "MOST_LETTERS", 1)
    bury(running, 2)
    [wish] = dead.wishes(JOB, 9)
    assert streams.dispatch(running, JOB, 3, b"task", 0, wish)
    assert running.hgetall(keys.requeues(JOB)) == {} and dead.origin(JOB, 3) == 1


def test_a_consumer_buries_only_what_is_its_own(running: Client) -> None:
    first, second = (Stage(running, JOB, PROMPTS, TRAJECTORIES, name) for name in "ab")
    entry: Any = first.take()
    streams.release_consumer(running, JOB, "a")
    [taken] = second.take_over(60)
    assert not first.bury(entry, "malformed", "late", b"failure")
    assert running.xlen(keys.stream(JOB, DEAD)) == 0
    assert second.bury(taken, "poison", "deaths", b"failure")
    assert not second.bury(taken, "poison", "deaths", b"failure")
    [failed] = streams.read_after(running, JOB, TRAJECTORIES, "0")
    assert (failed.number, failed.payload) == (0, b"failure")
    assert Tallies(running).read(JOB).dead_letters == {"poison": 1}


def test_burying_in_a_stream_that_was_removed_does_nothing(running: Client) -> None:
    stage = Stage(running, JOB, PROMPTS, TRAJECTORIES, "a")
    entry: Any = stage.take()
    streams.delete(running, JOB, [PROMPTS])
    assert not stage.bury(entry, "malformed", "late", b"failure")


def test_a_bad_entry_of_a_number_that_lives_elsewhere_ends_nothing(running: Client) -> None:
    stage = Stage(running, JOB, PROMPTS, TRAJECTORIES, "a")
    genuine: Any = stage.take()
    bad: dict[Any, Any] = {"job": JOB, "number": 0, "step": 0, "tokens": 5, "payload": b"\xff"}
    running.xadd(keys.stream(JOB, SCORED), bad, id=genuine.id)  # ids are a stream's own: two may be the same
    [entry] = streams.read_after(running, JOB, SCORED, "0")
    assert not DeadLetters(running).put(JOB, entry, SCORED, "malformed", "")
    assert running.xlen(keys.stream(JOB, SCORED)) == 0
    assert Tallies(running).read(JOB).wasted_tokens == {"malformed": 5}
    assert stage.hand_over(genuine, b"group", 0)
    running.xadd(keys.stream(JOB, SCORED), bad)
    running.delete(keys.stream(JOB, TRAJECTORIES))
    [entry] = streams.read_after(running, JOB, SCORED, "0")
    assert DeadLetters(running).put(JOB, entry, SCORED, "malformed", ""), "now it is the only one"
    assert running.xlen(keys.stream(JOB, SCORED)) == 1
    Progress(running).finish(JOB, epoch=1, next_step=0, numbers={"stale": [0]}, entry_ids=[])
    assert not DeadLetters(running).put(JOB, entry, SCORED, "malformed", ""), "a finished number ends no more"


@pytest.mark.parametrize("unknown", ["letter-5-5", "letter-x", "5-5", ""])
def test_a_letter_that_is_not_there_is_named(running: Client, unknown: str) -> None:
    dead = DeadLetters(running)
    for look in (lambda: dead.get(JOB, unknown), lambda: dead.requeue(JOB, unknown)):
        with pytest.raises(LetterNotFound) as missing:
            look()
        assert missing.value.letter_id == unknown and str(missing.value) == f"no dead letter {unknown!r}"


def test_a_wish_is_seen_at_its_letter_until_it_is_fulfilled(running: Client) -> None:
    dead = DeadLetters(running)
    letter = bury(running, 1)
    assert (dead.get(JOB, letter)[0].requeue_wanted, dead.get(JOB, letter)[0].requeued_as) == (False, None)
    wanted = dead.requeue(JOB, letter)
    assert (wanted.id, wanted.requeue_wanted, wanted.requeued_as) == (letter, True, None)
    [wish] = dead.wishes(JOB, 5)
    assert (wish.number, wish.origin, dead.wishes(JOB, 0)) == (1, 1, [])
    assert streams.dispatch(running, JOB, 3, b"task", 0, wish)
    assert dead.wishes(JOB, 5) == [] and dead.list(JOB)[0][0].requeued_as == 3
    assert (dead.origin(JOB, 3), dead.origin(JOB, 2)) == (1, 2)
