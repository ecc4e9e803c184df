"""Errors of one grader call, named as the OpenAI API names them.

`code` is one of `CODES`, so that the REST answer, the failure of a group and the error counter speak one language.
A transient error may be tried again; a permanent one would come out the same.
"""

from __future__ import annotations

from typing import Literal, get_args

Code = Literal[
    "formula_parse_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
    "invalid_variable_error",
    "other_error",
    "python_grader_server_error",
    "python_grader_runtime_error",
    "model_grader_server_error",
    "model_grader_refusal_error",
    "model_grader_parse_error",
]
CODES: tuple[str, ...] = get_args(Code)


class GradingFailed(Exception):
    """One grader call gave no reward."""

    transient = False

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code: Code = code
        self.detail = detail


class GraderRefused(GradingFailed):
    """The grader answered with an error: a template field is missing, a value is not a finite number, ..."""


class GraderTimeout(GradingFailed):
    """No answer within the call's time; the process was killed."""

    transient = True

    def __init__(self, detail: str) -> None:
        super().__init__("unresponsive_reward_error", detail)


class GraderCrashed(GradingFailed):
    """The grader process ended during the call, or answered something that is not an answer."""

    transient = True

    def __init__(self, detail: str) -> None:
        super().__init__("python_grader_server_error", detail)


class GraderNotStarted(RuntimeError):
    """No grader process can be started here. Says nothing about the sample, so no group is failed for it."""
