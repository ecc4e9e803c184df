"""A real API server in a thread, driven by the official SDK and by plain HTTP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn

from services.api.app import create_app
from services.disk.layout import Layout
from services.settings.processes import ApiSettings
from services.store.client import Client

KEY = "sk-test"
ROW = b'{"messages": [{"role": "user", "content": "2+2?"}], "answer": "4"}\n'

Serve = Callable[..., str]


@contextmanager
def serving(settings: ApiSettings) -> Iterator[str]:
    """Serve until the block ends; yields the base URL without /v1."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(settings), log_level="error", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline, "the API did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the models `tiny` and `org/tiny`."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("tiny", "org/tiny"):
        model = Layout(folder).models / name
        model.mkdir(parents=True)
        (model / "config.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def layout(data: Path) -> Layout:
    return Layout(data)


@pytest.fixture(scope="session")
def settings(redis_url: str, data: Path) -> ApiSettings:
    return ApiSettings(
        data=data,
        redis_url=redis_url,
        api_key=KEY,
        max_json_bytes=100_000,
        max_upload_bytes=1_000_000,
        grader_timeout_seconds=2,
        grader_requests_at_once=2,
    )


@pytest.fixture(scope="session")
def session_url(settings: ApiSettings) -> Iterator[str]:
    with serving(settings) as url:
        yield url


@pytest.fixture
def url(session_url: str, client: Client) -> str:
    """The server's URL, with an empty store."""
    return session_url


@pytest.fixture
def serve(settings: ApiSettings, client: Client) -> Iterator[Serve]:
    """`serve(strict_openai_status=True)`: a server of its own with other settings."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(serving(settings.model_copy(update=changes)))


@pytest.fixture(scope="session")
def clients(session_url: str) -> Iterator[tuple[openai.OpenAI, httpx.Client]]:
    """One pair for all tests: making one costs more than most tests do."""
    headers = {"Authorization": f"Bearer {KEY}"}
    with (
        openai.OpenAI(base_url=f"{session_url}/v1", api_key=KEY, timeout=20) as sdk,
        httpx.Client(base_url=session_url, headers=headers, timeout=20) as http,
    ):
        yield sdk, http


@pytest.fixture
def sdk(url: str, clients: tuple[openai.OpenAI, httpx.Client]) -> openai.OpenAI:
    """The official client, with its own retries."""
    return clients[0]


@pytest.fixture
def http(url: str, clients: tuple[openai.OpenAI, httpx.Client]) -> httpx.Client:
    """Plain HTTP with the key."""
    return clients[1]


@pytest.fixture
def file_id(sdk: openai.OpenAI) -> str:
    """An uploaded training file of three rows."""
    return sdk.files.create(file=("train.jsonl", ROW * 3), purpose="fine-tune").id


@pytest.fixture
def body(file_id: str) -> dict[str, Any]:
    """A good create request."""
    grader = {
        "type": "string_check",
        "name": "exact",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "operation": "eq",
    }
    return {
        "model": "tiny",
        "training_file": file_id,
        "method": {"type": "reinforcement", "reinforcement": {"grader": grader}},
    }


@pytest.fixture
def create(http: httpx.Client, body: dict[str, Any]) -> Callable[..., str]:
    """`create(metadata={...})`: the id of a new job."""

    def make(**changes: Any) -> str:
        answer = http.post("/v1/fine_tuning/jobs", json={**body, **changes})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    return make
