"""The standing grader service: answers grader runs and validations asked for over REST.

Each of a few threads owns one grader process, so that one endless pattern doesn't hold up everyone. The answers are
bodies of the OpenAI API. A run that failed is a 200 whose reward is 0 and whose `errors` name the failure. A refused
grader, or a request without its fields, is a 400 with the error envelope.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import structlog

from services.job.graders import Grader, GraderError, parse_grader
from services.job.strict_json import JsonObject, as_object
from services.reward.errors import CODES, GraderCrashed, GradingFailed
from services.reward.graders import GraderResult
from services.reward.sandbox import GraderProcess
from services.store.client import Client
from services.store.grader_requests import GraderRequest, answer, take

THREADS = 2
BLOCK_SECONDS = 1.0
RUN_SECONDS = 10.0
ANSWER_SECONDS = 0.5
"""Kept back from the asker's deadline, so that a time-out is still answered as one."""

log = structlog.get_logger()


class _BadRequest(ValueError):
    """A request that can't be run. `param` names its field."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class GraderService:
    """Runs until `stop`, which any thread may call."""

    def __init__(self, client: Client, threads: int = THREADS) -> None:
        self._client = client
        self._threads = threads
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Take no more requests; `run` ends after those in hand, within RUN_SECONDS."""
        self._stopped.set()

    def run(self) -> None:
        """Serve until stopped. Raises what ended a thread: StoreError, GraderNotStarted."""
        with ThreadPoolExecutor(self._threads) as pool:
            servers = [pool.submit(self._serve) for _ in range(self._threads)]
            wait(servers, return_when=FIRST_EXCEPTION)
            self.stop()
            for server in servers:
                server.result()

    def _serve(self) -> None:
        with GraderProcess() as process:
            process.start()
            while not self._stopped.is_set():
                if request := take(self._client, BLOCK_SECONDS):
                    status, body = respond(process, request)
                    answer(self._client, request.request_id, status, body)


def respond(process: GraderProcess, request: GraderRequest) -> tuple[int, JsonObject]:
    """Status and body for one request. Raises GraderNotStarted."""
    try:
        grader = _grader(request.body)
        if request.kind == "validate":
            _check(process, request)
            return 200, {"grader": request.body["grader"]}
        text, item = _sample(request.body)
    except _BadRequest as error:
        return 400, _envelope(error)
    started = time.monotonic()
    result, failure = _run(process, request, text, item)
    log.info("grader_run", grader=grader.name, kind=grader.type, error=failure.code if failure else None)
    return 200, run_body(grader, result, failure, time.monotonic() - started)


def run_body(
    grader: Grader, result: GraderResult, failure: GradingFailed | None, execution_seconds: float
) -> JsonObject:
    """The body of a grader run. `reward` is a number even after a failure, because typed clients need one."""
    errors: JsonObject = {code: failure is not None and failure.code == code for code in CODES}
    errors |= {
        "python_grader_server_error_type": None,
        "python_grader_runtime_error_details": None,
        "model_grader_server_error_details": None,
    }
    return {
        "reward": result.value,
        "sub_rewards": result.components,
        "model_grader_token_usage_per_model": {},
        "metadata": {
            "name": grader.name,
            "type": grader.type,
            "execution_time": execution_seconds,
            "scores": result.components,
            "token_usage": None,
            "sampled_model_name": None,
            "errors": errors,
            "x_error_detail": failure.detail if failure else None,
        },
    }


def _run(
    process: GraderProcess, request: GraderRequest, text: str, item: JsonObject
) -> tuple[GraderResult, GradingFailed | None]:
    try:
        return process.grade(as_object(request.body["grader"]), {"output_text": text}, item, _seconds(request)), None
    except GradingFailed as error:
        return GraderResult(0.0), error


def _check(process: GraderProcess, request: GraderRequest) -> None:
    try:
        process.check(as_object(request.body["grader"]), _seconds(request))
    except GraderError as error:
        raise _BadRequest(f"grader.{error.field}" if error.field else "grader", error.message) from error
    except GraderCrashed as error:
        raise _BadRequest("grader", error.detail) from error


def _seconds(request: GraderRequest) -> float:
    """How long a call may take."""
    return max(ANSWER_SECONDS, min(RUN_SECONDS, request.deadline - time.time() - ANSWER_SECONDS))


def _grader(body: JsonObject) -> Grader:
    grader = body.get("grader")
    if not isinstance(grader, dict):
        raise _BadRequest("grader", "expected an object")
    try:
        return parse_grader(grader)
    except GraderError as error:
        raise _BadRequest(f"grader.{error.field}" if error.field else "grader", error.message) from error


def _sample(body: JsonObject) -> tuple[str, JsonObject]:
    text, item = body.get("model_sample"), body.get("item", {})
    if not isinstance(text, str):
        raise _BadRequest("model_sample", "expected text")
    if not isinstance(item, dict):
        raise _BadRequest("item", "expected an object")
    return text, item


def _envelope(error: _BadRequest) -> JsonObject:
    message = f"Invalid '{error.param}': {error}"
    code = "invalid_grader" if error.param.startswith("grader") else "invalid_value"
    return {"error": {"message": message, "type": "invalid_request_error", "param": error.param, "code": code}}
