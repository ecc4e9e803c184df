"""What a person is shown of a payload that nobody could read."""

from __future__ import annotations

from services.trajectories.codec import floats, ints
from services.trajectories.dead.summary import summarise
from services.trajectories.entries import EVAL_PROMPTS, PROMPTS, SCORED
from sspo_proto.trajectory_pb2 import Failure, Group, PromptTask, Reward, Sampling, Trajectory, VersionSpan

TASK = PromptTask(
    schema_version=1,
    job_id="j",
    group_number=4,
    dataset_row=9,
    prompt_token_ids=ints([1, 2, 3]),
    item_json='{"a": 1}',
    sampling=Sampling(temperature=0.5, max_tokens=7, group_size=2),
    issued_step=6,
)
SHOWN_TASK = {
    **{"schema_version": 1, "job_id": "j", "group_number": 4, "dataset_row": 9, "prompt_tokens": 3},
    **{"item_json": '{"a": 1}', "temperature": 0.5, "max_tokens": 7, "group_size": 2, "issued_step": 6},
}


def test_a_prompt_is_shown_in_both_streams_of_prompts() -> None:
    payload = TASK.SerializeToString()
    for stream in (PROMPTS, EVAL_PROMPTS):
        assert summarise(payload, stream) == {"first_bytes": payload[:64].hex(), "message": SHOWN_TASK}


def test_a_group_is_shown_with_its_failure_and_its_completions() -> None:
    one = Trajectory(
        completion_token_ids=ints([1, 2, 3]),
        behaviour_logprobs=floats([-1, -1]),
        version_spans=[VersionSpan(version=5), VersionSpan(version=6)],
        stop_reason="length",
        reward=Reward(value=0.25),
    )
    group = Group(
        schema_version=1,
        task=TASK,
        trajectories=[one, Trajectory()],
        failure=Failure(reason="grader_error", code="c", detail="d"),
        rollout_worker="rollout-1",
        reward_worker="reward-1",
    )
    assert summarise(group.SerializeToString(), SCORED)["message"] == {
        "schema_version": 1,
        "task": SHOWN_TASK,
        "trajectories": [
            {"completion_tokens": 3, "logprobs": 2, "versions": [5, 6], "stop_reason": "length", "reward": 0.25},
            {"completion_tokens": 0, "logprobs": 0, "versions": [], "stop_reason": "", "reward": None},
        ],
        "trajectories_total": 2,
        "failure": {"reason": "grader_error", "code": "c", "detail": "d"},
        "rollout_worker": "rollout-1",
        "reward_worker": "reward-1",
    }


def test_what_is_no_message_is_shown_in_hex_only() -> None:
    assert summarise(b"\xff" * 100, SCORED) == {"first_bytes": "ff" * 64, "message": None}
    assert summarise(b"", SCORED) == {"first_bytes": "", "message": None}
