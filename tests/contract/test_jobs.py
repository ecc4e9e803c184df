"""Fine-tuning jobs over the official SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from services.job.spec import LearnerSpec
from services.records.outcomes import CheckpointRecord
from services.store.client import Client
from services.store.job.events import Events
from services.store.job.jobs import Jobs
from services.store.job.record import JobError
from services.store.job.steps import Checkpoints
from services.store.job.transitions import Status

Create = Callable[..., str]


def test_a_created_job_has_every_field_that_typed_clients_need(sdk: openai.OpenAI, body: dict[str, Any]) -> None:
    job = sdk.fine_tuning.jobs.create(
        **body,
        suffix="my-run",
        seed=42,
        metadata={"k": "v"},
        extra_body={"x_sspo": {"rollout": {"group_size": 4}, "learner": {"steps": 7}}},
    )
    assert job.id.startswith("ftjob-")
    assert (job.object, job.status, job.model, job.seed) == ("fine_tuning.job", "validating_files", "tiny", 42)
    assert (job.result_files, job.trained_tokens, job.metadata) == ([], 0, {"k": "v"})
    assert isinstance(job.organization_id, str)
    assert job.hyperparameters is not None
    assert job.method is not None
    assert job.method.type == "reinforcement"
    assert type(job.method.reinforcement.grader).__name__ == "StringCheckGrader"
    resolved = job.model_extra["x_sspo"]
    assert (resolved["rollout"]["group_size"], resolved["learner"]["steps"]) == (4, 7)
    assert resolved["objective"]["name"] == "sspo"
    assert len(resolved["objective"]) > 1, "defaults are filled in"
    assert sdk.fine_tuning.jobs.retrieve(job.id) == job


def test_the_record_in_the_store_is_resolved(sdk: openai.OpenAI, client: Client, body: dict[str, Any]) -> None:
    job = sdk.fine_tuning.jobs.create(**body, extra_body={"x_sspo": {"rollout": {"workers": 3}}})
    record = Jobs(client).get(job.id)
    assert (record.rollout_workers, record.reward_workers) == (3, 1)
    assert (record.spec.job_id, record.spec.seed) == (job.id, job.seed)
    assert record.waiting_for is not None
    assert record.request["training_file"] == body["training_file"]


def test_hyperparameters_give_steps_rates_and_evaluation(
    sdk: openai.OpenAI, client: Client, body: dict[str, Any], file_id: str
) -> None:
    body["method"]["reinforcement"]["hyperparameters"] = {
        "batch_size": 2,
        "learning_rate_multiplier": 3,
        "n_epochs": 5,
        "eval_interval": 4,
        "eval_samples": 9,
        "compute_multiplier": "auto",
        "reasoning_effort": "default",
    }
    job = sdk.fine_tuning.jobs.create(**body, validation_file=file_id)
    spec = Jobs(client).get(job.id).spec
    assert spec.learner.batch_size == 2
    assert spec.learner.steps == 8, "3 rows × 5 epochs in batches of 2"
    assert spec.learner.learning_rate == pytest.approx(3 * LearnerSpec().learning_rate)
    assert spec.evaluation is not None
    assert (spec.evaluation.every, spec.evaluation.samples) == (4, 9)


def test_auto_means_the_default_and_the_extension_wins(
    sdk: openai.OpenAI, client: Client, body: dict[str, Any]
) -> None:
    body["method"]["reinforcement"]["hyperparameters"] = {
        "batch_size": 5,
        "learning_rate_multiplier": "auto",
        "n_epochs": 2,
    }
    job = sdk.fine_tuning.jobs.create(**body, extra_body={"x_sspo": {"learner": {"batch_size": 6, "steps": 11}}})
    learner = Jobs(client).get(job.id).spec.learner
    assert (learner.batch_size, learner.steps) == (6, 11)
    assert learner.learning_rate == LearnerSpec().learning_rate
    assert Jobs(client).get(job.id).spec.evaluation is None


def test_blocks_of_other_methods_are_ignored_and_what_is_only_recorded_says_so(
    sdk: openai.OpenAI, client: Client, body: dict[str, Any]
) -> None:
    body["method"] |= {"supervised": {"hyperparameters": {"n_epochs": "auto"}}, "dpo": {"hyperparameters": {"beta": 1}}}
    job = sdk.fine_tuning.jobs.create(**body, hyperparameters={"n_epochs": 3})
    warnings = [event.message for event in Events(client).follow(job.id) if event.level == "warn"]
    assert [warning.split()[0] for warning in warnings] == ["hyperparameters"]


def test_an_integration_is_taken_as_openai_has_it(sdk: openai.OpenAI, client: Client, body: dict[str, Any]) -> None:
    wandb = [{"type": "wandb", "wandb": {"project": "p", "name": None, "tags": ["t"]}}]
    job = sdk.fine_tuning.jobs.create(**body, integrations=wandb)
    assert sdk.fine_tuning.jobs.retrieve(job.id).integrations[0].wandb.project == "p"
    asked = Jobs(client).get(job.id).spec.wandb
    assert asked is not None and (asked.project, asked.tags) == ("p", ("t",))


def test_pages_of_jobs_are_newest_first_and_stable_under_inserts(sdk: openai.OpenAI, create: Create) -> None:
    made = [create() for _ in range(5)]
    pages = sdk.fine_tuning.jobs.list(limit=2)
    seen = [job.id for job in pages.data]
    late = create()
    while pages.has_next_page():
        pages = pages.get_next_page()
        seen += [job.id for job in pages.data]
    assert seen == sorted(made, reverse=True)
    assert [job.id for job in sdk.fine_tuning.jobs.list(limit=3)] == [late, *sorted(made, reverse=True)]


def test_jobs_are_filtered_by_metadata(sdk: openai.OpenAI, create: Create) -> None:
    wanted = create(metadata={"team": "a b", "run": "1"})
    create(metadata={"team": "a b"})
    create()
    found = sdk.fine_tuning.jobs.list(metadata={"team": "a b", "run": "1"})
    assert [job.id for job in found] == [wanted]
    assert len(list(sdk.fine_tuning.jobs.list(metadata=None))) == 3


def test_pause_resume_and_cancel_may_be_repeated(sdk: openai.OpenAI, client: Client, create: Create) -> None:
    jobs, api = Jobs(client), sdk.fine_tuning.jobs
    job_id = create()
    jobs.transition(job_id, Status.QUEUED, by="test")
    jobs.transition(job_id, Status.RUNNING, by="test")
    assert [api.pause(job_id).status for _ in range(2)] == ["pausing", "pausing"]
    jobs.transition(job_id, Status.PAUSED, by="test")
    assert api.pause(job_id).status == "paused"
    assert [api.resume(job_id).status for _ in range(2)] == ["queued", "queued"]
    assert [api.cancel(job_id).status for _ in range(2)] == ["cancelled", "cancelled"]
    assert api.retrieve(job_id).finished_at is not None
    messages = [event.message for event in api.list_events(job_id)]
    assert messages == [
        "The job is now cancelled",
        "The job is now queued",
        "The job is now paused",
        "The job is now pausing",
        "The job is now running",
        "The job is now queued",
        "Created the job",
    ]


def test_a_queued_job_is_paused_at_once(sdk: openai.OpenAI, client: Client, create: Create) -> None:
    job_id = create()
    Jobs(client).transition(job_id, Status.QUEUED, by="test")
    assert sdk.fine_tuning.jobs.pause(job_id).status == "paused"


def test_a_failed_job_shows_its_error_and_can_be_resumed(sdk: openai.OpenAI, client: Client, create: Create) -> None:
    job_id = create()
    error = JobError(code="invalid_file", message="line 3: not JSON", param="training_file")
    Jobs(client).transition(job_id, Status.FAILED, by="test", error=error)
    failed = sdk.fine_tuning.jobs.retrieve(job_id)
    assert failed.error is not None
    assert (failed.status, failed.error.code, failed.error.param) == ("failed", "invalid_file", "training_file")
    resumed = sdk.fine_tuning.jobs.resume(job_id)
    assert (resumed.status, resumed.error, resumed.finished_at) == ("queued", None, None)


def test_a_conflict_is_answered_once(sdk: openai.OpenAI, client: Client, create: Create) -> None:
    job_id = create()
    sdk.fine_tuning.jobs.cancel(job_id)
    with pytest.raises(openai.ConflictError) as refused:
        sdk.fine_tuning.jobs.pause(job_id)
    error = refused.value
    assert (error.code, error.type, error.param) == ("invalid_state", "invalid_request_error", "status")
    assert "cancelled" in error.message
    assert error.response.headers["x-should-retry"] == "false"
    assert error.response.request.headers["x-stainless-retry-count"] == "0", "the SDK tried once"


@pytest.mark.parametrize("act", ["retrieve", "cancel", "pause", "resume", "list_events"])
def test_an_unknown_job_is_a_404_with_the_envelope(sdk: openai.OpenAI, act: str) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        getattr(sdk.fine_tuning.jobs, act)("ftjob-none")
    assert (missing.value.code, missing.value.param) == ("job_not_found", "fine_tuning_job_id")
    assert "ftjob-none" in missing.value.message
    assert missing.value.request_id.startswith("req_")


def test_events_page_newest_first(sdk: openai.OpenAI, client: Client, create: Create) -> None:
    job_id = create()
    for number in range(6):
        Events(client).add(job_id, f"step {number}", type="metrics", data={"step": number})
    events = list(sdk.fine_tuning.jobs.list_events(job_id, limit=2))
    assert [event.message for event in events] == [
        *(f"step {number}" for number in range(5, -1, -1)),
        "Created the job",
    ]
    assert (events[0].object, events[0].type, events[0].data) == ("fine_tuning.job.event", "metrics", {"step": 5})
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.fine_tuning.jobs.list_events(job_id, after="nonsense")
    assert refused.value.param == "after"


def test_checkpoints_page_newest_first(sdk: openai.OpenAI, client: Client, create: Create) -> None:
    job_id = create(suffix="s")
    for step in (10, 20, 100):
        kept = CheckpointRecord(step=step, path="/secret/place", created_at=1000 + step, train_mean_reward=0.5)
        Checkpoints(client).put(job_id, kept)
    found = list(sdk.fine_tuning.jobs.checkpoints.list(job_id, limit=1))
    assert [checkpoint.step_number for checkpoint in found] == [100, 20, 10]
    newest = found[0]
    assert (newest.object, newest.fine_tuning_job_id, newest.created_at) == ("fine_tuning.job.checkpoint", job_id, 1100)
    assert newest.fine_tuned_model_checkpoint == f"ft:tiny:sspo:s:{job_id.removeprefix('ftjob-')}:ckpt-step-100"
    assert newest.metrics.model_extra == {"train_mean_reward": 0.5}
    with pytest.raises(openai.BadRequestError):
        sdk.fine_tuning.jobs.checkpoints.list(job_id, after="ftckpt-other-10")


def test_checkpoint_permissions_are_not_offered(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as refused:
        sdk.fine_tuning.checkpoints.permissions.create("ft:org/a:b", project_ids=["p"])
    assert (refused.value.status_code, refused.value.code) == (501, "not_implemented")


def post(http: httpx.Client, body: dict[str, Any], **headers: str) -> httpx.Response:
    return http.post(
        "/v1/fine_tuning/jobs", json=body, headers={name.replace("_", "-"): v for name, v in headers.items()}
    )


def test_a_repeated_create_makes_one_job(http: httpx.Client, client: Client, body: dict[str, Any]) -> None:
    first = post(http, body, x_stainless_retry_count="0").json()["id"]
    repeat = {name: body[name] for name in reversed(body)}
    assert post(http, repeat, x_stainless_retry_count="1").json()["id"] == first
    other = post(http, {**body, "suffix": "b"}, x_stainless_retry_count="1").json()["id"]
    again = post(http, body, x_stainless_retry_count="0").json()["id"]
    assert len({first, other, again}) == 3, "only a repeat is the same job"
    assert post(http, body, x_stainless_retry_count="2").json()["id"] == again
    assert len(Jobs(client).ids()) == 3


def test_a_repeat_makes_the_job_when_the_first_attempt_was_cut_off(
    http: httpx.Client, client: Client, body: dict[str, Any]
) -> None:
    first = post(http, body).json()["id"]
    client.delete(f"sspo:job:{{{first}}}")
    client.zrem("sspo:jobs", first)
    assert post(http, body, x_stainless_retry_count="1").json()["id"] == first
    assert Jobs(client).ids() == [first]


def test_an_idempotency_key_means_one_body(http: httpx.Client, client: Client, body: dict[str, Any]) -> None:
    first = post(http, body, idempotency_key="k1").json()["id"]
    assert post(http, body, idempotency_key="k1").json()["id"] == first
    assert post(http, body, idempotency_key="k2").json()["id"] != first
    conflict = post(http, {**body, "suffix": "b"}, idempotency_key="k1")
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert conflict.headers["x-should-retry"] == "false"
    assert len(Jobs(client).ids()) == 2


def test_strict_clients_can_validate_every_answer(serve: Any, client: Client, body: dict[str, Any]) -> None:
    url = serve(strict_openai_status=True)
    with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test", _strict_response_validation=True) as strict:
        api = strict.fine_tuning.jobs
        job = api.create(**body)
        Jobs(client).transition(job.id, Status.QUEUED, by="test")
        paused = api.pause(job.id)
        assert (paused.status, paused.model_extra["x_state"]) == ("queued", "paused")
        api.resume(job.id)
        Jobs(client).transition(job.id, Status.RUNNING, by="test")
        pausing = api.pause(job.id)
        assert (pausing.status, pausing.model_extra["x_state"]) == ("running", "pausing")
        Checkpoints(client).put(job.id, CheckpointRecord(step=3, path="/p", created_at=5))
        assert [item.id for item in api.list()] == [job.id]
        assert len(list(api.list_events(job.id))) == 6
        assert len(list(api.checkpoints.list(job.id))) == 1
        assert strict.files.retrieve(job.training_file).purpose == "fine-tune"
        cancelled = api.cancel(job.id)
        assert cancelled.status == "cancelled"
        assert "x_state" not in (cancelled.model_extra or {})
