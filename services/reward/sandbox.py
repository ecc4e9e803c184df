"""A standing grader process, seen from its parent.

Invariants: every call ends by its deadline, in a finite reward or a typed error; after a time-out, a crash or an
interruption the process is dead and the next call starts a fresh one. So a late answer can't be taken for the answer to
another question. The child's environment holds no secret of ours, and nothing but JSON passes.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import NoReturn, Self, TypeGuard

import structlog

from services.job.graders import GraderError
from services.job.strict_json import JsonObject, as_object
from services.reward.errors import CODES, GraderCrashed, GraderNotStarted, GraderRefused, GraderTimeout
from services.reward.graders import GraderResult

COMMAND = (sys.executable, "-I", "-X", "utf8", "-m", "services.reward.grader_process")
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
START_SECONDS = 30.0
KILL_SECONDS = 10.0
WAIT_SECONDS = 1.0
"""How often `on_wait` is called during a call."""
MAX_ANSWER_BYTES = 1 << 20
CHUNK_BYTES = 1 << 16

log = structlog.get_logger()


class GraderProcess:
    """One child process, one call at a time. Not for use by several threads."""

    def __init__(self, command: Sequence[str] = COMMAND, on_wait: Callable[[], None] = lambda: None) -> None:
        self._command = tuple(command)
        self._on_wait = on_wait
        self._process: subprocess.Popen[bytes] | None = None
        self._calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the living child; None before the start and after a kill."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the child if there is none. Raises GraderNotStarted when it isn't ready within START_SECONDS."""
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT, cwd="/", bufsize=0
        )
        try:
            answer = self._exchange(b"", time.monotonic() + START_SECONDS)
        except GraderTimeout as error:
            raise GraderNotStarted(f"the grader process was not ready within {START_SECONDS:.0f} s") from error
        except GraderCrashed as error:
            raise GraderNotStarted(f"the grader process did not start: {error.detail}") from error
        if answer.get("ready") is not True:
            self.close()
            raise GraderNotStarted("the grader process did not say that it is ready")

    def grade(
        self,
        grader: Mapping[str, object],
        sample: Mapping[str, object],
        item: Mapping[str, object],
        timeout_seconds: float,
    ) -> GraderResult:
        """One reward. The time counts from when the process is ready.

        Raises GraderTimeout, GraderCrashed (both transient), GraderRefused (permanent) or GraderNotStarted.
        """
        return self._result(self._ask(grader, timeout_seconds, sample=sample, item=item))

    def check(self, grader: Mapping[str, object], timeout_seconds: float) -> None:
        """Whether the grader can be used: its fields are right and its pattern compiles in time.

        Raises GraderError naming the field, GraderCrashed or GraderNotStarted.
        """
        try:
            answer = self._ask(grader, timeout_seconds)
        except GraderTimeout as error:
            raise GraderError("pattern", f"it takes longer than {timeout_seconds:g} s to compile") from error
        refused = answer.get("refused")
        if refused is not None:
            reason = as_object(refused)
            raise GraderError(str(reason["field"]), str(reason["message"]))

    def _ask(self, grader: Mapping[str, object], timeout_seconds: float, **about: object) -> JsonObject:
        """One question to the child, started if need be; its answer. Raises what `grade` does."""
        self.start()
        self._calls += 1
        request = {"id": self._calls, "grader": grader, "timeout_seconds": timeout_seconds, **about}
        try:
            answer = self._exchange(json.dumps(request).encode() + b"\n", time.monotonic() + timeout_seconds)
        except GraderTimeout:
            log.warning("grader_timeout", grader=grader.get("name"), timeout_seconds=timeout_seconds)
            raise
        if answer.get("id") != self._calls:
            self._fail("the grader process answered another question")
        return answer

    def close(self) -> None:
        """End the child, if any, and reap it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait(KILL_SECONDS)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _exchange(self, line: bytes, deadline: float) -> JsonObject:
        try:
            raw = self._write_and_read(line, deadline)
        except BaseException:
            self.close()
            raise
        try:
            answer = json.loads(raw)
        except ValueError:
            self._fail("the grader process answered something that is not JSON")
        if not isinstance(answer, dict):
            self._fail("the grader process answered something that is not an object")
        return answer

    def _write_and_read(self, line: bytes, deadline: float) -> bytes:
        """Write one line and read one line, whichever the pipes allow first."""
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        stdin, stdout = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(stdin, False)
        unsent, answer = memoryview(line), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if unsent:
                selector.register(stdin, selectors.EVENT_WRITE)
            next_wait = time.monotonic() + WAIT_SECONDS
            while not answer.endswith(b"\n"):
                now = time.monotonic()
                if now >= deadline:
                    raise GraderTimeout("no answer within the time-out; the grader process was killed")
                if now >= next_wait:
                    next_wait = now + WAIT_SECONDS
                    self._on_wait()
                for key, _ in selector.select(min(deadline, next_wait) - now):
                    if key.fd == stdout:
                        answer += self._read(stdout, MAX_ANSWER_BYTES - len(answer))
                    else:
                        unsent = unsent[self._write(stdin, unsent) :]
                        if not unsent:
                            selector.unregister(stdin)
        return bytes(answer)

    def _read(self, stdout: int, room_bytes: int) -> bytes:
        chunk = os.read(stdout, CHUNK_BYTES)
        if not chunk:
            raise GraderCrashed(self._obituary())
        if len(chunk) > room_bytes:
            raise GraderCrashed(f"the grader process answered more than {MAX_ANSWER_BYTES} bytes")
        return chunk

    def _write(self, stdin: int, unsent: memoryview) -> int:
        try:
            return os.write(stdin, unsent[:CHUNK_BYTES])
        except BlockingIOError:
            return 0
        except BrokenPipeError as error:
            raise GraderCrashed(self._obituary()) from error

    def _obituary(self) -> str:
        assert self._process is not None
        try:
            code = self._process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            return "the grader process closed its pipes"
        return f"the grader process ended: {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"

    def _result(self, answer: JsonObject) -> GraderResult:
        error = answer.get("error")
        if isinstance(error, dict) and error.get("code") in CODES:
            raise GraderRefused(error["code"], str(error.get("detail", "")))
        value, components = answer.get("value"), answer.get("components")
        if not _is_number(value) or not isinstance(components, dict) or not all(map(_is_number, components.values())):
            self._fail("the grader process answered neither a result nor an error")
        result = GraderResult(float(value), {str(name): float(part) for name, part in components.items()})
        if not all(map(math.isfinite, (result.value, *result.components.values()))):
            raise GraderRefused("other_error", "the grader gave a value that is not finite")
        return result

    def _fail(self, detail: str) -> NoReturn:
        self.close()
        raise GraderCrashed(detail)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
