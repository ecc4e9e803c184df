"""The grader process as its parent sees it; broken children are real processes that break the protocol."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.job.graders import GraderError
from services.reward import sandbox
from services.reward.errors import GraderCrashed, GraderNotStarted, GraderRefused, GraderTimeout
from services.reward.sandbox import GraderProcess

EQUAL = {
    "type": "string_check",
    "name": "equal",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
CATASTROPHE = {"type": "regex_match", "name": "slow", "input": "{{sample.output_text}}", "pattern": "(a+)+$"}
ENDLESS_TEXT = {"output_text": "a" * 64 + "b"}
READY = "import sys, json, os, signal, time\nprint(json.dumps({'ready': True}), flush=True)\n"


@pytest.fixture
def process() -> Iterator[GraderProcess]:
    with GraderProcess() as grader_process:
        yield grader_process


def equal(process: GraderProcess, text: str = "4", timeout_seconds: float = 10.0) -> float:
    return process.grade(EQUAL, {"output_text": text}, {"answer": "4"}, timeout_seconds).value


def child(code: str) -> GraderProcess:
    return GraderProcess(command=(sys.executable, "-I", "-c", READY + code))


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_one_process_answers_call_after_call(process: GraderProcess) -> None:
    assert [equal(process, "4"), equal(process, "5")] == [1.0, 0.0]
    first = process.pid
    assert equal(process) == 1.0
    assert process.pid == first


def test_a_catastrophic_pattern_is_killed_in_time_and_the_next_call_works(process: GraderProcess) -> None:
    process.start()
    hung = process.pid
    assert hung is not None
    started = time.monotonic()
    with pytest.raises(GraderTimeout) as raised:
        process.grade(CATASTROPHE, ENDLESS_TEXT, {}, 0.5)
    assert time.monotonic() - started < 2.0
    assert raised.value.code == "unresponsive_reward_error" and raised.value.transient
    assert not is_alive(hung)
    assert equal(process) == 1.0
    assert process.pid != hung


def test_a_process_killed_between_calls_is_replaced(process: GraderProcess) -> None:
    assert equal(process) == 1.0
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert equal(process) == 1.0


def test_a_missing_field_is_permanent_and_keeps_the_process(process: GraderProcess) -> None:
    with pytest.raises(GraderRefused) as raised:
        process.grade(EQUAL, {"output_text": "4"}, {}, 10.0)
    assert raised.value.code == "invalid_variable_error" and not raised.value.transient
    assert "item.answer" in raised.value.detail
    assert process.pid is not None and equal(process) == 1.0


def test_a_grader_the_child_refuses_is_a_permanent_error(process: GraderProcess) -> None:
    with pytest.raises(GraderRefused, match="unknown grader type"):
        process.grade({"type": "nonsense", "name": "n"}, {"output_text": ""}, {}, 10.0)


def test_large_samples_pass_in_both_directions(process: GraderProcess) -> None:
    text = "ä" * 1_000_000
    assert process.grade(EQUAL, {"output_text": text}, {"answer": text}, 10.0).value == 1.0


def test_memory_is_limited_to_the_child(process: GraderProcess) -> None:
    # Rendering would take 2 GB.
    grader = {**EQUAL, "input": "{{item.big}}" * 250}
    with pytest.raises(GraderCrashed, match="exit code 1"):
        process.grade(grader, {"output_text": ""}, {"big": "x" * 8_000_000, "answer": "4"}, 30.0)
    assert equal(process) == 1.0


def test_the_child_gets_none_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSPO_REDIS_URL", "redis://:secret@localhost")
    with GraderProcess() as process:
        process.start()
        environment = Path(f"/proc/{process.pid}/environ").read_text()
    assert "secret" not in environment
    assert {entry.split("=")[0] for entry in environment.strip("\0").split("\0")} == {"PATH", "LC_ALL"}


def test_the_child_ends_with_its_parents_pipe(process: GraderProcess) -> None:
    process.start()
    assert process._process is not None and process._process.stdin is not None
    process._process.stdin.close()
    assert process._process.wait(10) == 0


@pytest.mark.parametrize("value", ["float('nan')", "float('inf')", "-float('inf')"])
def test_a_value_that_is_not_finite_is_an_error_never_a_reward(value: str) -> None:
    code = f"sys.stdin.readline()\nprint(json.dumps({{'id': 1, 'value': {value}, 'components': {{}}}}), flush=True)"
    with child(code) as process, pytest.raises(GraderRefused, match="not finite"):
        equal(process)


def test_a_component_that_is_not_finite_is_an_error() -> None:
    answer = '{"id": 1, "value": 1.0, "components": {"a": NaN}}'
    code = f"sys.stdin.readline()\nprint({answer!r}, flush=True)"
    with child(code) as process, pytest.raises(GraderRefused, match="not finite"):
        equal(process)


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("sys.stdin.readline(); os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("sys.stdin.readline(); sys.exit(3)", "exit code 3"),
        ("sys.exit(0)", "exit code 0"),
        ("sys.stdin.readline(); print('no json', flush=True); time.sleep(60)", "not JSON"),
        ("sys.stdin.readline(); print('[1]', flush=True); time.sleep(60)", "not an object"),
        ("sys.stdin.readline(); print('{\"id\": 1}', flush=True); time.sleep(60)", "neither a result nor an error"),
        (
            'sys.stdin.readline(); print(\'{"id": 1, "value": true, "components": {}}\', flush=True); time.sleep(60)',
            "neither a result nor an error",
        ),
        (
            'sys.stdin.readline(); print(\'{"id": 7, "value": 1.0, "components": {}}\', flush=True); time.sleep(60)',
            "another question",
        ),
        ("sys.stdin.readline(); sys.stdout.write('x' * 3_000_000)", "more than"),
    ],
)
def test_a_broken_child_is_a_typed_crash_and_is_gone_afterwards(code: str, match: str) -> None:
    with child(code) as process:
        process.start()
        pid = process.pid
        assert pid is not None
        with pytest.raises(GraderCrashed, match=match) as raised:
            equal(process)
        assert raised.value.transient and raised.value.code == "python_grader_server_error"
        assert process.pid is None and not is_alive(pid)


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("import time; time.sleep(60)", "not ready"),
        ("raise SystemExit(3)", "exit code 3"),
        ("print('{}', flush=True); import time; time.sleep(60)", "did not say"),
    ],
)
def test_a_child_that_never_gets_ready_makes_the_grader_unavailable(
    monkeypatch: pytest.MonkeyPatch, code: str, match: str
) -> None:
    monkeypatch.setattr(sandbox, "START_SECONDS", 0.3 if "ready" in match else 10.0)
    process = GraderProcess(command=(sys.executable, "-I", "-c", code))
    with process, pytest.raises(GraderNotStarted, match=match):
        equal(process)
    assert process.pid is None


def test_a_child_that_stops_reading_does_not_block_the_parent() -> None:
    with child("time.sleep(60)") as process:
        process.start()
        started = time.monotonic()
        with pytest.raises(GraderTimeout):
            process.grade(EQUAL, {"output_text": "x" * 5_000_000}, {"answer": "4"}, 0.5)
        assert time.monotonic() - started < 3.0


def test_waiting_is_told_and_an_interruption_kills_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "WAIT_SECONDS", 0.05)
    calls: list[float] = []

    def on_wait() -> None:
        calls.append(time.monotonic())
        if len(calls) == 3:
            raise InterruptedError

    with GraderProcess(on_wait=on_wait) as process, pytest.raises(InterruptedError):
        process.start()
        calls.clear()
        process.grade(CATASTROPHE, ENDLESS_TEXT, {}, 30.0)
    assert len(calls) == 3 and process.pid is None


def test_a_grader_is_tried_before_it_is_used(process: GraderProcess) -> None:
    process.check(EQUAL, 10.0)
    process.check({**CATASTROPHE, "pattern": r"(\d+)"}, 10.0)
    for pattern in ("(", "a{99999999999999}"):
        with pytest.raises(GraderError, match="not a regular expression") as refused:
            process.check({**CATASTROPHE, "pattern": pattern}, 10.0)
        assert refused.value.field == "pattern"
    with pytest.raises(GraderError) as refused:
        process.check({**EQUAL, "operation": "equals"}, 10.0)
    assert refused.value.field == "operation"


def test_a_pattern_that_takes_too_long_to_compile_is_refused_in_time(process: GraderProcess) -> None:
    process.start()
    started = time.monotonic()
    with pytest.raises(GraderError, match=r"longer than 0\.5 s") as refused:
        process.check({**CATASTROPHE, "pattern": "(?i)" + "[\x01-\U0010fffe]" * 800}, 0.5)
    assert refused.value.field == "pattern" and time.monotonic() - started < 3.0
    assert equal(process) == 1.0
