"""The child that runs graders: `python -m services.reward.grader_process`, JSON lines on stdin and stdout.

Answers `{"ready": true}` once, then one line per request line, in order:

    {"id": 1, "grader": {...}, "sample": {...}, "item": {...}, "timeout_seconds": 10}
    {"id": 1, "value": 1.0, "components": {}}   or   {"id": 1, "error": {"code": ..., "detail": ...}}

A request without a sample asks whether the grader can be used at all; the answer is `"refused": null`, or the field and
why: `"refused": {"field": ..., "message": ...}`.

The process ends when stdin does. An unexpected error ends it too, and its parent sees a crash. Address space is limited
for its life, and CPU time for each request: an orphan with a catastrophic pattern burns no core for ever.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
from typing import BinaryIO

from services.job.graders import GraderError, TemplateError, parse_grader
from services.job.strict_json import JsonObject, as_object
from services.reward.errors import Code
from services.reward.graders import check, grade

MEMORY_BYTES = 1 << 30
OPEN_FILES = 64
SPARE_CPU_SECONDS = 5


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a stray print must not look like an answer
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _write(answers, {"ready": True})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _limit_cpu(request["timeout_seconds"])
        answer = _answer(request) if "sample" in request else _checked(request["grader"])
        _write(answers, {"id": request["id"], **answer})


def _checked(block: JsonObject) -> JsonObject:
    try:
        check(parse_grader(block))
    except GraderError as error:
        return {"refused": {"field": error.field, "message": error.message}}
    return {"refused": None}


def _answer(request: JsonObject) -> JsonObject:
    try:
        grader = parse_grader(as_object(request["grader"]))
        check(grader)
        result = grade(grader, as_object(request["sample"]), as_object(request["item"]))
    except TemplateError as error:
        return _error("invalid_variable_error", str(error))
    except GraderError as error:
        return _error("other_error", f"grader refused: {error}")
    if not all(map(math.isfinite, (result.value, *result.components.values()))):
        return _error("other_error", "the grader gave a value that is not finite")
    return {"value": result.value, "components": result.components}


def _error(code: Code, detail: str) -> JsonObject:
    return {"error": {"code": code, "detail": detail}}


def _limit_cpu(timeout_seconds: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime + timeout_seconds) + SPARE_CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _write(answers: BinaryIO, answer: JsonObject) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
