"""What every request meets: the key, request ids, the error envelope, limits, health, a store that is away."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from services.api.app import create_app
from services.settings.base import SettingsError
from services.settings.processes import ApiSettings

ENVELOPE = {"message", "type", "param", "code"}


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Basic sk-test", "sk-test", "Bearer sk-testé"])
@pytest.mark.parametrize("path", ["/v1/files", "/v1/x/models", "/v1/no/such/route"])
def test_nothing_under_v1_answers_without_the_key(url: str, header: str | None, path: str) -> None:
    headers = {"authorization": header.encode()} if header else {}
    answer = httpx.post(url + path, headers=headers, content=b"{}")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert (answer.json()["error"]["code"], set(answer.json()["error"])) == ("invalid_api_key", ENVELOPE)


def test_the_sdk_sees_an_authentication_error(url: str) -> None:
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong") as sdk,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        sdk.files.list()
    assert (refused.value.code, refused.value.type) == ("invalid_api_key", "authentication_error")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/no/such/route", 404, "not_found"),
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/files/", 404, "not_found"),
        ("DELETE", "/v1/fine_tuning/jobs", 405, "method_not_allowed"),
        ("GET", "/v1/fine_tuning/alpha/graders/run", 405, "method_not_allowed"),
    ],
)
def test_what_does_not_exist_has_the_envelope(
    http: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    assert (answer.json()["error"]["code"], set(answer.json()["error"])) == (code, ENVELOPE)
    assert answer.headers["x-request-id"].startswith("req_")


def test_every_answer_has_an_id_of_its_own(http: httpx.Client, url: str) -> None:
    answers = [http.get("/healthz"), http.get("/v1/files"), httpx.get(f"{url}/v1/files")]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 3


@pytest.mark.parametrize("declared", [True, False])
def test_a_json_body_beyond_the_limit_is_refused(http: httpx.Client, declared: bool) -> None:
    raw = b'{"model": "' + b"x" * 200_000 + b'"}'
    content: Any = raw if declared else iter([raw[:1000], raw[1000:]])
    answer = http.post("/v1/fine_tuning/jobs", content=content)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "payload_too_large"


def test_health_needs_no_key(url: str) -> None:
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{url}/readyz").json() == {"status": "ready"}
    assert httpx.get(f"{url}/docs").status_code == 200
    assert "/v1/fine_tuning/jobs" in httpx.get(f"{url}/openapi.json").json()["paths"]


def test_without_redis_the_api_lives_and_says_so(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.api.dependencies.REDIS_PATIENCE_SECONDS", 0.2)
    url = serve(redis_url=f"unix://{tmp_path}/nothing.sock")
    assert httpx.get(f"{url}/healthz").status_code == 200
    ready = httpx.get(f"{url}/readyz")
    assert (ready.status_code, ready.json()["error"]["code"]) == (503, "store_unavailable")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0) as sdk:
        with pytest.raises(openai.InternalServerError) as refused:
            sdk.fine_tuning.jobs.retrieve("ftjob-1")
        assert (refused.value.status_code, refused.value.code) == (503, "store_unavailable")
    scrape = httpx.get(f"{url}/metrics", timeout=30)
    assert "sspo_store_up 0.0" in scrape.text


def test_an_unexpected_error_is_a_500_with_the_envelope(settings: ApiSettings) -> None:
    app = create_app(settings)

    def crash() -> None:
        raise RuntimeError("a detail that stays in the log")

    app.add_api_route("/v1/crash", crash)

    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/v1/crash", headers={"authorization": "Bearer sk-test"})

    answer = asyncio.run(call())
    assert answer.status_code == 500
    error = answer.json()["error"]
    assert (error["type"], error["code"], set(error)) == ("server_error", "internal_error", ENVELOPE)
    assert "a detail" not in answer.text
    assert answer.headers["x-request-id"] in error["message"]
    app.state.service.client.close()


def test_settings_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SSPO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SSPO_DATA", str(tmp_path))
    with pytest.raises(SettingsError, match="SSPO_REDIS_URL is not set"):
        ApiSettings.read()
    monkeypatch.setenv("SSPO_REDIS_URL", "unix:///r")
    with pytest.raises(SettingsError, match="api-key"):
        ApiSettings.read()
    (tmp_path / "api-key").write_text("\n")
    with pytest.raises(SettingsError, match="is empty"):
        ApiSettings.read()
    (tmp_path / "api-key").write_text("sk-file\n")
    monkeypatch.setenv("SSPO_STRICT_OPENAI_STATUS", "true")
    settings = ApiSettings.read()
    assert (settings.api_key, settings.strict_openai_status, settings.data) == ("sk-file", True, tmp_path.resolve())
    assert "sk-file" not in repr(settings)
    monkeypatch.setenv("SSPO_API_KEY", "sk-env")
    assert ApiSettings.read().api_key == "sk-env"
    monkeypatch.setenv("SSPO_MAX_UPLOAD_BYTES", "many")
    with pytest.raises(SettingsError, match="SSPO_MAX_UPLOAD_BYTES") as bad:
        ApiSettings.read()
    assert "sk-env" not in str(bad.value) and "many" not in str(bad.value)


def test_the_api_loads_nothing_heavy() -> None:
    script = (
        "import sys, services.api.app, services.api.__main__\n"
        "print([name for name in ('torch', 'ray', 'vllm', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.strip() == "[]"
