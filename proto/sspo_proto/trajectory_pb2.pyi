from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Sampling(_message.Message):
    __slots__ = ("temperature", "max_tokens", "seed", "group_size", "stop_token_ids")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    GROUP_SIZE_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    max_tokens: int
    seed: int
    group_size: int
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, temperature: _Optional[float] = ..., max_tokens: _Optional[int] = ..., seed: _Optional[int] = ..., group_size: _Optional[int] = ..., stop_token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class PromptTask(_message.Message):
    __slots__ = ("schema_version", "job_id", "group_number", "dataset_row", "prompt_token_ids", "item_json", "sampling", "issued_step", "issued_at", "evaluation_step")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_NUMBER_FIELD_NUMBER: _ClassVar[int]
    DATASET_ROW_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    ITEM_JSON_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    ISSUED_STEP_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_STEP_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    job_id: str
    group_number: int
    dataset_row: int
    prompt_token_ids: bytes
    item_json: str
    sampling: Sampling
    issued_step: int
    issued_at: float
    evaluation_step: int
    def __init__(self, schema_version: _Optional[int] = ..., job_id: _Optional[str] = ..., group_number: _Optional[int] = ..., dataset_row: _Optional[int] = ..., prompt_token_ids: _Optional[bytes] = ..., item_json: _Optional[str] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., issued_step: _Optional[int] = ..., issued_at: _Optional[float] = ..., evaluation_step: _Optional[int] = ...) -> None: ...

class VersionSpan(_message.Message):
    __slots__ = ("version", "step", "start", "end")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    version: int
    step: int
    start: int
    end: int
    def __init__(self, version: _Optional[int] = ..., step: _Optional[int] = ..., start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class Reward(_message.Message):
    __slots__ = ("value", "components")
    class ComponentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    VALUE_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    value: float
    components: _containers.ScalarMap[str, float]
    def __init__(self, value: _Optional[float] = ..., components: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("reason", "code", "detail")
    REASON_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: str
    code: str
    detail: str
    def __init__(self, reason: _Optional[str] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Trajectory(_message.Message):
    __slots__ = ("completion_token_ids", "behaviour_logprobs", "loss_mask", "turn_ids", "version_spans", "stop_reason", "reward")
    COMPLETION_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    BEHAVIOUR_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    LOSS_MASK_FIELD_NUMBER: _ClassVar[int]
    TURN_IDS_FIELD_NUMBER: _ClassVar[int]
    VERSION_SPANS_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    completion_token_ids: bytes
    behaviour_logprobs: bytes
    loss_mask: bytes
    turn_ids: bytes
    version_spans: _containers.RepeatedCompositeFieldContainer[VersionSpan]
    stop_reason: str
    reward: Reward
    def __init__(self, completion_token_ids: _Optional[bytes] = ..., behaviour_logprobs: _Optional[bytes] = ..., loss_mask: _Optional[bytes] = ..., turn_ids: _Optional[bytes] = ..., version_spans: _Optional[_Iterable[_Union[VersionSpan, _Mapping]]] = ..., stop_reason: _Optional[str] = ..., reward: _Optional[_Union[Reward, _Mapping]] = ...) -> None: ...

class Group(_message.Message):
    __slots__ = ("schema_version", "task", "trajectories", "failure", "rollout_worker", "reward_worker", "sampled_at", "scored_at")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TRAJECTORIES_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_WORKER_FIELD_NUMBER: _ClassVar[int]
    REWARD_WORKER_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_AT_FIELD_NUMBER: _ClassVar[int]
    SCORED_AT_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    task: PromptTask
    trajectories: _containers.RepeatedCompositeFieldContainer[Trajectory]
    failure: Failure
    rollout_worker: str
    reward_worker: str
    sampled_at: float
    scored_at: float
    def __init__(self, schema_version: _Optional[int] = ..., task: _Optional[_Union[PromptTask, _Mapping]] = ..., trajectories: _Optional[_Iterable[_Union[Trajectory, _Mapping]]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., rollout_worker: _Optional[str] = ..., reward_worker: _Optional[str] = ..., sampled_at: _Optional[float] = ..., scored_at: _Optional[float] = ...) -> None: ...
