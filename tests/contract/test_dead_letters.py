"""Dead letters over REST, and what a job's view and the metrics page say of its streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.store import keys
from services.store.client import Client
from services.store.job.jobs import Jobs
from services.store.job.transitions import Status
from services.trajectories import streams
from services.trajectories.codec import encode, ints
from services.trajectories.dead.letters import DeadLetters
from services.trajectories.entries import ALL_STREAMS, PROMPTS, SCORED, TRAJECTORIES, Entry
from services.trajectories.stage import Stage
from services.trajectories.tallies import Tallies
from sspo_proto.trajectory_pb2 import Group, PromptTask, Reward, Sampling, Trajectory

Create = Callable[..., str]


def bury(client: Client, job_id: str, number: int, payload: bytes = b"\xff\xfe", found_in: str = SCORED) -> str:
    entry = Entry(f"{number + 1}-0", number, 0, payload, tokens=3)
    DeadLetters(client).put(job_id, entry, found_in, "malformed", f"detail {number}")
    return DeadLetters(client).list(job_id)[0][0].id


@pytest.fixture
def job_id(client: Client, create: Create) -> str:
    """A running job with three groups issued."""
    made = create()
    for status in (Status.QUEUED, Status.RUNNING):
        Jobs(client).transition(made, status, by="test")
    streams.prepare(client, made)
    for number in range(3):
        assert streams.dispatch(client, made, number, b"task", 0)
    return made


def test_letters_are_paged_newest_first_without_payloads(http: httpx.Client, client: Client, job_id: str) -> None:
    ids = [bury(client, job_id, number) for number in range(3)][::-1]
    path = f"/v1/x/jobs/{job_id}/dead_letters"
    first = http.get(path, params={"limit": 2}).json()
    assert (first["object"], first["has_more"], first["first_id"], first["last_id"]) == ("list", True, *ids[:2])
    second = http.get(path, params={"limit": 2, "after": first["last_id"]}).json()
    assert [letter["id"] for letter in second["data"]] == ids[2:] and second["has_more"] is False
    shown = second["data"][0]
    assert shown.pop("created_at") > 1e9
    assert shown == {
        "object": "x.dead_letter",
        "id": ids[2],
        "number": 0,
        "found_in": "scored",
        "reason": "malformed",
        "detail": "detail 0",
        "bytes": 2,
        "requeue_wanted": False,
        "requeued_as": None,
    }


def test_a_letter_is_shown_with_what_could_be_decoded(http: httpx.Client, client: Client, job_id: str) -> None:
    sampling = Sampling(temperature=float("nan"), group_size=1)
    task = PromptTask(schema_version=7, job_id=job_id, group_number=1, prompt_token_ids=ints([1]), sampling=sampling)
    wild = Trajectory(completion_token_ids=b"123", reward=Reward(value=float("inf")))
    group = Group(schema_version=7, task=task, trajectories=[wild])
    path = f"/v1/x/jobs/{job_id}/dead_letters"
    shown = http.get(f"{path}/{bury(client, job_id, 1, encode(group))}").json()
    assert shown["payload"]["kept_bytes"] == shown["bytes"] == len(encode(group))
    message = shown["payload"]["message"]
    assert (message["schema_version"], message["task"]["temperature"], message["trajectories"][0]["reward"]) == (
        *(7, None),
        None,
    )
    broken = http.get(f"{path}/{bury(client, job_id, 2)}").json()
    assert broken["payload"] == {"kept_bytes": 2, "first_bytes": "fffe", "message": None}


def test_a_letter_is_requeued_once(http: httpx.Client, client: Client, job_id: str) -> None:
    path = f"/v1/x/jobs/{job_id}/dead_letters/{bury(client, job_id, 1)}"
    wanted = http.post(f"{path}/requeue")
    assert wanted.status_code == 200
    assert (wanted.json()["requeue_wanted"], wanted.json()["requeued_as"]) == (True, None)
    assert http.post(f"{path}/requeue").json() == wanted.json()
    [wish] = DeadLetters(client).wishes(job_id, 9)
    assert streams.dispatch(client, job_id, 3, b"task", 0, wish)
    assert http.post(f"{path}/requeue").json()["requeued_as"] == http.get(path).json()["requeued_as"] == 3
    assert DeadLetters(client).wishes(job_id, 9) == []


@pytest.mark.parametrize("to", [Status.FAILED, Status.CANCELLED])
def test_an_ended_job_shows_its_letters_and_requeues_none(
    http: httpx.Client, client: Client, job_id: str, to: Status
) -> None:
    letter = bury(client, job_id, 1)
    Jobs(client).transition(job_id, to, by="test")
    path = f"/v1/x/jobs/{job_id}/dead_letters"
    assert [shown["id"] for shown in http.get(path).json()["data"]] == [letter]
    refused = http.post(f"{path}/{letter}/requeue")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "invalid_state")
    assert to.value in refused.json()["error"]["message"] and refused.headers["x-should-retry"] == "false"


def test_what_cannot_be_requeued_or_found_says_so(http: httpx.Client, client: Client, job_id: str) -> None:
    path = f"/v1/x/jobs/{job_id}/dead_letters"
    unnumbered = http.post(f"{path}/{bury(client, job_id, -1)}/requeue")
    assert (unnumbered.status_code, unnumbered.json()["error"]["code"]) == (409, "not_requeueable")
    for method, missing in (("GET", "letter-1-1"), ("POST", "letter-1-1/requeue"), ("GET", "x")):
        answer = http.request(method, f"{path}/{missing}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "dead_letter_not_found")
    for bad in ({"limit": 0}, {"limit": 101}, {"after": "x"}):
        answer = http.get(path, params=bad)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(bad)))
    other = path.replace(job_id, "ftjob-none")
    for answer in (http.get(other), http.get(f"{other}/letter-1-1"), http.post(f"{other}/letter-1-1/requeue")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "job_not_found")


def test_a_jobs_view_says_what_its_streams_hold_and_what_was_wasted(
    url: str, http: httpx.Client, client: Client, job_id: str
) -> None:
    stage: Any = Stage(client, job_id, PROMPTS, TRAJECTORIES, "a")
    stage.hand_over(stage.take(), b"group", 0, sampled_tokens=5)
    Tallies(client).waste(job_id, "stale", 40)
    bury(client, job_id, 1)
    view = http.get(f"/v1/x/jobs/{job_id}").json()
    assert set(view["streams"]) == set(ALL_STREAMS)
    assert view["streams"]["prompts"].pop("oldest_seconds") < 60
    assert view["streams"]["prompts"] == {"entries": 2, "bytes": 8, "pending": 0}
    assert view["streams"]["eval_scored"] == {"entries": 0, "bytes": 0, "oldest_seconds": 0.0, "pending": 0}
    assert (view["streams"]["trajectories"]["bytes"], view["streams"]["dead"]["entries"]) == (5, 1)
    assert view["wasted_tokens"] == {"stale": 40}
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
        for sample in family.samples
    }
    assert samples["sspo_queue_bytes", job_id, "prompts"] == 8
    assert samples["sspo_queue_entries", "dead", job_id] == 1
    assert samples["sspo_tokens_wasted_total", job_id, "stale"] == 40
    assert samples["sspo_dead_letter_total", job_id, "malformed"] == 1
    assert samples["sspo_dead_letters_forgotten_total", job_id] == 0


def test_a_stranger_in_a_stream_breaks_neither_view_nor_metrics(
    url: str, http: httpx.Client, client: Client, job_id: str
) -> None:
    for name in ALL_STREAMS:
        client.xadd(keys.stream(job_id, name), {"hello": "world"})
        client.xadd(keys.stream(job_id, name), {"number": b"\xff", "payload": b"\xff", "step": "x"})
    view = http.get(f"/v1/x/jobs/{job_id}").json()
    assert view["ledger"]["balanced"] and view["ledger"]["in_flight"] == 3
    assert view["streams"]["prompts"]["entries"] == 5
    assert len(http.get(f"/v1/x/jobs/{job_id}/dead_letters").json()["data"]) == 2
    assert f'sspo_groups_missing{{job_id="{job_id}"}} 0.0' in httpx.get(f"{url}/metrics").text
