"""Our own routes: the job's view, scaling, figures, event streams, discovery, and the metrics page."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.disk.files import append_line, write_atomic
from services.disk.layout import Layout
from services.observability.metrics import METRICS
from services.records.outcomes import CheckpointRecord, EvaluationRecord
from services.records.step import StepRecord
from services.records.worker import WorkerRecord
from services.store import keys
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.jobs import Jobs
from services.store.job.registry import Registry
from services.store.job.steps import LATEST, Checkpoints, Evaluations, Steps
from services.store.job.transitions import Status
from services.store.nodes import Nodes
from services.trajectories.progress import Progress
from services.trajectories.tallies import Tallies

Create = Callable[..., str]

STEP = {
    "time": 1000.5,
    "seconds": 2.0,
    "loss": 0.25,
    "reward_mean": 0.5,
    "drift": {
        "ratio_mean": 1.01,
        "kl_k3": 0.02,
        "drift_share": None,
        "mismatch_kl_k3": None,
        "histograms": {"ratio_histogram": list(range(13)), "sequence_ratio_histogram": [1.0] * 13},
        "buckets": {"0/0": {"kl_k3": 0.01}, "1/1": {"kl_k3": 0.03}, "50/0": {"kl_k3": 0.5}},
    },
}


def said(step: int, **changes: Any) -> StepRecord:
    return StepRecord.model_validate({"step": step, **STEP, **changes})


def worker(name: str, kind: str, state: str = "ready", version: int = 3, **detail: Any) -> WorkerRecord:
    values = {"policy_version": version, "node": "node-a", "pid": 7, "heartbeat": time.time(), "detail": detail}
    return WorkerRecord.model_validate({"id": name, "kind": kind, "state": state, **values})


def test_a_new_job_says_what_it_waits_for(http: httpx.Client, create: Create) -> None:
    job_id = create()
    view = http.get(f"/v1/x/jobs/{job_id}").json()
    assert (view["status"], view["stage"]) == ("validating_files", "validating_files")
    assert view["waiting_for"]["what"]
    assert abs(view["waiting_for"]["since"] - time.time()) < 30
    assert (view["step"], view["policy_version"], view["workers"], view["drift"]) == (0, 0, [], None)
    assert view["spec"]["job_id"] == job_id
    ledger = view["ledger"]
    assert (ledger["issued"], ledger["trained"], ledger["dropped"], ledger["in_flight"]) == (0, 0, {}, 0)
    assert ledger["balanced"] is True


def test_a_running_job_shows_progress_workers_and_drift(
    http: httpx.Client, client: Client, layout: Layout, create: Create
) -> None:
    job_id = create()
    Progress(client).publish(job_id, epoch=1, version=4, step=3, path="/w")
    Progress(client).finish(job_id, epoch=1, next_step=3, numbers={"trained": [0, 1], "stale": [2]}, entry_ids=[])
    client.set(keys.cursor(job_id), 3)
    Registry(client).put(job_id, worker("rollout-0", "rollout", engine_key="secret"))
    Steps(client, layout).put(job_id, said(2))
    view = http.get(f"/v1/x/jobs/{job_id}").json()
    assert (view["step"], view["policy_version"]) == (3, 4)
    assert (view["ledger"]["issued"], view["ledger"]["trained"], view["ledger"]["dropped"]) == (3, 2, {"stale": 1})
    shown = view["workers"][0]
    assert {"id", "kind", "state", "policy_version", "node", "pid"} <= set(shown)
    assert "secret" not in json.dumps(view)
    assert view["drift"]["kl_k3"] == 0.02


def test_scaling_is_absolute_and_an_operation_id_makes_it_repeatable(
    http: httpx.Client, client: Client, create: Create
) -> None:
    path = f"/v1/x/jobs/{create()}/rollout_workers"
    first = http.put(path, json={"replicas": 4, "operation_id": "op-1"}).json()
    assert (first["replicas"], first["previous"], first["applied"]) == (4, 1, True)
    assert http.put(path, json={"replicas": 2}).json()["previous"] == 4
    assert http.put(path, json={"replicas": 4, "operation_id": "op-1"}).json()["applied"] is False
    view = http.get(path.removesuffix("/rollout_workers")).json()
    assert view["desired"] == {"rollout_workers": 2, "reward_workers": 1}
    reused = http.put(path, json={"replicas": 5, "operation_id": "op-1"})
    assert (reused.status_code, reused.json()["error"]["code"]) == (409, "operation_conflict")
    other_kind = http.put(path.replace("rollout", "reward"), json={"replicas": 4, "operation_id": "op-1"})
    assert other_kind.status_code == 409


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({}, "replicas"),
        ({"replicas": -1}, "replicas"),
        ({"replicas": 257}, "replicas"),
        ({"replicas": "2"}, "replicas"),
        ({"replicas": 2, "operation_id": ""}, "operation_id"),
        ({"replicas": 2, "replica": 3}, "replica"),
    ],
)
def test_a_bad_scaling_names_its_field(http: httpx.Client, create: Create, wanted: dict[str, Any], param: str) -> None:
    answer = http.put(f"/v1/x/jobs/{create()}/reward_workers", json=wanted)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_an_ended_job_is_not_scaled(http: httpx.Client, create: Create) -> None:
    job_id = create()
    http.post(f"/v1/fine_tuning/jobs/{job_id}/cancel")
    answer = http.put(f"/v1/x/jobs/{job_id}/rollout_workers", json={"replicas": 2})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "invalid_state")
    assert http.put("/v1/x/jobs/ftjob-none/rollout_workers", json={"replicas": 2}).status_code == 404


def test_figures_come_as_a_time_series(http: httpx.Client, client: Client, layout: Layout, create: Create) -> None:
    job_id = create()
    for step in range(4):
        Steps(client, layout).put(job_id, said(step, loss=step / 4))
    Evaluations(client).put(job_id, EvaluationRecord(step=2, reward_mean=0.75))
    path = f"/v1/x/jobs/{job_id}/metrics"
    one = http.get(path, params={"name": "loss", "since": 2}).json()["data"]
    assert one == [{"step": 2, "values": {"loss": 0.5}}, {"step": 3, "values": {"loss": 0.75}}]
    names = ["loss", "drift.kl_k3", "drift.drift_share", "drift.buckets.1/1.kl_k3", "no.such"]
    several = http.get(path, params={"name": names, "since": 3}).json()["data"][0]["values"]
    assert several == {"loss": 0.75, "drift.kl_k3": 0.02, "drift.drift_share": None, "drift.buckets.1/1.kl_k3": 0.03}
    everything = http.get(path).json()["data"][0]["values"]
    assert {"loss", "reward_mean", "drift.ratio_mean"} <= set(everything)
    assert http.get(f"/v1/x/jobs/{job_id}/evaluations").json()["data"] == [{"reward_mean": 0.75, "step": 2}]
    first = http.get(path, params={"name": "loss", "limit": 3}).json()
    assert ([point["step"] for point in first["data"]], first["has_more"]) == ([0, 1, 2], True)
    rest = http.get(path, params={"name": "loss", "limit": 3, "since": 3}).json()
    assert ([point["step"] for point in rest["data"]], rest["has_more"]) == ([3], False)
    assert http.get(path, params={"since": -1}).status_code == 400
    assert http.get(path, params={"limit": 0}).status_code == 400


def read_stream(http: httpx.Client, path: str, **headers: str) -> list[dict[str, Any]]:
    """All server-sent events until the server ends the stream."""
    found: list[dict[str, Any]] = []
    with http.stream("GET", path, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for block in "".join(answer.iter_text()).split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields:
                found.append(fields)
    return found


def test_events_stream_until_the_job_has_ended(http: httpx.Client, client: Client, create: Create) -> None:
    job_id = create()

    def live() -> None:
        time.sleep(0.3)
        Events(client).add(job_id, "step 1", type="metrics", data={"loss": 0.5})
        Jobs(client).transition(job_id, Status.CANCELLED, by="test")

    thread = threading.Thread(target=live)
    thread.start()
    path = f"/v1/x/jobs/{job_id}/events/stream"
    found = read_stream(http, path)
    thread.join(10)
    assert [fields["event"] for fields in found] == ["message", "metrics", "message", "end"]
    data = [json.loads(fields["data"]) for fields in found[:-1]]
    assert [event["message"] for event in data] == ["Created the job", "step 1", "The job is now cancelled"]
    assert data[1]["data"] == {"loss": 0.5}
    resumed = read_stream(http, path, **{"Last-Event-ID": found[1]["id"]})
    assert [fields["event"] for fields in resumed] == ["message", "end"]


def test_a_stream_of_nothing_is_an_error_before_it_starts(http: httpx.Client, create: Create) -> None:
    assert http.get("/v1/x/jobs/ftjob-none/events/stream").status_code == 404
    job_id = create()
    answer = http.get(f"/v1/x/jobs/{job_id}/events/stream", headers={"Last-Event-ID": "nonsense"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "after")


def test_discovery_lists_the_exporters_of_jobs_that_run(http: httpx.Client, client: Client, create: Create) -> None:
    running, ended = create(), create()
    for job_id in (running, ended):
        Registry(client).put(job_id, worker("rollout-0", "rollout", metrics_address="127.0.0.1:9001"))
        Registry(client).put(job_id, worker("reward-0", "reward"))
    Jobs(client).transition(ended, Status.CANCELLED, by="test")
    Nodes(client).put({"127.0.0.1:9002": "node-a"})
    labels = {"job_id": running, "kind": "rollout", "worker": "rollout-0", "node": "node-a"}
    assert http.get("/v1/x/metrics/targets").json() == [
        {"targets": ["127.0.0.1:9002"], "labels": {"kind": "ray", "node": "node-a"}},
        {"targets": ["127.0.0.1:9001"], "labels": labels},
    ]


def test_what_a_learner_left_to_be_looked_at(http: httpx.Client, layout: Layout, create: Create) -> None:
    job_id = create()
    path = f"/v1/x/jobs/{job_id}"
    assert http.get(f"{path}/gate").json() == {"object": "x.gate", "gate": None}
    assert http.get(f"{path}/samples").json()["data"] == []
    curve = {"objective": "sspo", "log_ratio": [0.0], "positive": [1.0], "negative": [1.0]}
    write_atomic(layout.job(job_id).gate, json.dumps(curve).encode())
    for step in range(5):
        append_line(
            layout.job(job_id).samples, json.dumps({"step": step, "group_number": 0, "prompt": "", "trajectories": []})
        )
    assert http.get(f"{path}/gate").json()["gate"] == curve
    page = http.get(f"{path}/samples", params={"since": 1, "limit": 3}).json()
    assert ([sample["step"] for sample in page["data"]], page["has_more"]) == ([2, 3, 4], True)
    assert http.get("/v1/x/jobs/ftjob-none/gate").status_code == 404
    assert http.get("/v1/x/jobs/ftjob-none/samples").status_code == 404


def test_models_are_the_registered_names(http: httpx.Client) -> None:
    page = http.get("/v1/x/models").json()
    assert [model["id"] for model in page["data"]] == ["org/tiny", "tiny"]


def scrape(url: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by name and sorted label values, from a page that must parse."""
    text = httpx.get(f"{url}/metrics").text
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def test_the_metrics_page_shows_jobs_from_the_store(url: str, client: Client, layout: Layout, create: Create) -> None:
    job_id = create()
    Progress(client).finish(
        job_id,
        epoch=1,
        next_step=3,
        numbers={"trained": [0, 1], "stale": [2]},
        entry_ids=[],
    )
    Progress(client).set(job_id, trained_tokens=99)
    client.set(keys.cursor(job_id), 4)
    client.xadd(keys.stream(job_id, "scored"), {"number": 3})
    Registry(client).put(job_id, worker("rollout-0", "rollout", version=2))
    Registry(client).put(job_id, worker("rollout-1", "rollout", state="syncing", version=1))
    Steps(client, layout).put(job_id, said(2))
    Checkpoints(client).put(job_id, CheckpointRecord(step=2, path="/2", created_at=5))
    for name, amount in (("restarts:rollout", 2), ("redelivered:trajectories", 4), ("canary_failures", 1)):
        Tallies(client).count(job_id, name, amount)
    found = scrape(url)
    assert found["sspo_store_up"][()] == 1
    assert found["sspo_jobs"][("validating_files",)] == 1
    assert found["sspo_jobs"][("running",)] == 0
    assert found["sspo_learner_step"][(job_id,)] == 3
    assert found["sspo_learner_tokens_total"][(job_id,)] == 99
    assert found["sspo_groups_dropped_total"][(job_id, "stale")] == 1
    assert found["sspo_groups_in_flight"][(job_id,)] == 1
    assert found["sspo_queue_entries"][(job_id, "scored")] == 1
    assert found["sspo_staleness_queued_steps_max"][(job_id,)] == 3
    assert found["sspo_staleness_in_flight_steps_max"][(job_id,)] == 0
    assert found["sspo_queue_pending_entries"][(job_id, "prompts")] == 0
    assert found["sspo_worker_restarts_total"][(job_id, "rollout")] == 2
    assert found["sspo_queue_redelivered_total"][(job_id, "trajectories")] == 4
    assert found["sspo_canary_failures_total"][(job_id,)] == 1
    assert found["sspo_checkpoint_step"][(job_id,)] == 2
    assert found["sspo_rollout_workers"][(job_id, "desired")] == 1
    assert found["sspo_rollout_workers"][(job_id, "ready")] == 1
    assert found["sspo_rollout_workers"][(job_id, "syncing")] == 1
    assert found["sspo_worker_policy_version_min"][(job_id,)] == 1
    assert found["sspo_is_ratio_mean"][(job_id,)] == 1.01
    assert found["sspo_is_ratio_tokens"][(job_id, "+Inf")] == 12
    assert found["sspo_drift_bucket_kl_k3"] == {(job_id, "0", "0"): 0.01, (job_id, "1", "1"): 0.03}
    assert "sspo_drift_share_ratio" not in found, "a figure that does not exist yet is no zero"


def test_a_rollback_makes_no_counter_smaller(url: str, client: Client, create: Create) -> None:
    job_id = create()
    Progress(client).set(job_id, trained_tokens=60)
    Tallies(client).waste(job_id, "rolled_back", 40)
    numbers = {"trained": [0, 1], "rolled_back": [2]}
    Progress(client).finish(job_id, epoch=1, next_step=1, numbers=numbers, entry_ids=[])
    found = scrape(url)
    assert found["sspo_learner_tokens_total"][(job_id,)] == 100
    assert found["sspo_groups_trained_total"][(job_id,)] == 3


def test_a_job_that_can_not_be_read_hides_no_other(url: str, client: Client, create: Create) -> None:
    broken, sound = create(), create()
    line = json.dumps({"step": 2, "drift": "no figures at all"})
    client.hset(keys.steps(broken), mapping={"2": line, LATEST: "2"})
    assert set(scrape(url)["sspo_learner_step"]) == {(sound,)}


def test_every_exported_name_is_in_the_table(url: str, client: Client, layout: Layout, create: Create) -> None:
    Steps(client, layout).put(create(), said(2))
    table = {metric.name: metric for metric in METRICS}
    for name in scrape(url):
        base = next(
            (name.removesuffix(end) for end in ("_bucket", "_count", "_sum", "_created") if name.endswith(end)), name
        )
        assert name in table or base in table, name


def test_series_of_jobs_that_ended_long_ago_are_gone(url: str, client: Client, create: Create) -> None:
    job_id = create()
    Jobs(client).transition(job_id, Status.CANCELLED, by="test")
    assert (job_id,) in scrape(url)["sspo_learner_step"]
    Jobs(client).update(job_id, finished_at=int(time.time()) - 3600)
    found = scrape(url)
    assert "sspo_learner_step" not in found
    assert found["sspo_jobs"][("cancelled",)] == 1


def test_requests_are_timed_by_route_and_not_by_path(url: str, http: httpx.Client, create: Create) -> None:
    job_id = create()
    http.get(f"/v1/fine_tuning/jobs/{job_id}")
    http.get("/v1/some/wild/path")
    counted = scrape(url)["http_request_duration_seconds_count"]
    routes = {labels[2] for labels in counted}
    assert "/v1/fine_tuning/jobs/{job_id}" in routes
    assert "unmatched" in routes
    assert not any(job_id in part or "wild" in part for labels in counted for part in labels)
