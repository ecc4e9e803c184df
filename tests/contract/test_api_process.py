"""The API as a process: settings from the environment, nothing printed, a quick end, many clients at once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.store.client import Client
from services.store.job.jobs import Jobs

COMMAND = [sys.executable, "-m", "services.api"]


def environment(**values: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SSPO_")}
    return {**kept, **values}


def await_ready(process: subprocess.Popen[bytes], http: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            assert http.get("/readyz").status_code == 200
            return
        except httpx.ConnectError:
            assert process.poll() is None and time.monotonic() < deadline, "the API did not start"
            time.sleep(0.1)


@pytest.mark.timeout(90)
def test_a_process_serves_until_it_is_told_to_stop(redis_url: str, data: Path, create: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    job_id = create()
    settings = environment(SSPO_DATA=str(data), SSPO_REDIS_URL=redis_url, SSPO_API_KEY="sk-p")
    command = [*COMMAND, "--port", str(port)]
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": "Bearer sk-p"}) as http:
                await_ready(process, http)
                with http.stream("GET", f"/v1/x/jobs/{job_id}/events/stream") as stream:
                    chunks = stream.iter_text()
                    assert "Created the job" in next(chunks)
                    process.send_signal(signal.SIGTERM)
                    with pytest.raises(httpx.RemoteProtocolError):
                        list(chunks)
            assert process.wait(20) in (0, -signal.SIGTERM), "an open event stream does not hold the process"
            assert process.stdout is not None
            assert process.stdout.read() == b""
        finally:
            process.kill()


def test_a_process_without_settings_says_what_is_missing() -> None:
    done = subprocess.run(COMMAND, env=environment(), capture_output=True, text=True, timeout=50)
    assert done.returncode == 2
    assert "SSPO_DATA is not set" in done.stderr


def test_many_clients_at_once_are_all_served(
    url: str, http: httpx.Client, body: dict[str, Any], client: Client
) -> None:
    def serve_one(number: int) -> tuple[str, int]:
        # A client of its own: one shared by threads may close a connection that another thread was just given.
        with httpx.Client(base_url=url, headers=http.headers, timeout=40, verify=False) as own:
            made = own.post("/v1/fine_tuning/jobs", json=body | {"metadata": {"n": str(number)}}).json()["id"]
            return made, own.get(f"/v1/x/jobs/{made}").status_code

    with ThreadPoolExecutor(64) as pool:
        made, answers = zip(*pool.map(serve_one, range(200)), strict=True)
    assert len(set(made)) == len(Jobs(client).ids()) == 200
    assert set(answers) == {200}
