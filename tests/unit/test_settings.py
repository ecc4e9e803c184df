"""Every SSPO_* variable is a documented field; errors name the variable and show no value."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.learner.reports.wandb_sink import _mode
from services.settings.base import Settings, SettingsError
from services.settings.page import PAGE, document
from services.settings.processes import (
    ALL,
    ApiSettings,
    ControllerSettings,
    FaultSettings,
    FolderSettings,
    PageSettings,
    PlacementSettings,
    StoreSettings,
)

SERVICES = Path(__file__).parents[2] / "services"
FOR_CHILDREN = {"cli/up/parts.py"}
"""Files that pass an environment on to processes they start."""
SECRET = "redis://:hunter2@host"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in os.environ:
        if name.startswith(("SSPO_", "WANDB_")):
            monkeypatch.delenv(name)
    yield


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == document(), "run `make docs`"


@pytest.mark.parametrize("settings", ALL, ids=lambda one: one.__name__)
def test_every_setting_says_what_it_is(settings: type[Settings]) -> None:
    for name, field in settings.model_fields.items():
        assert field.description and field.description.endswith("."), name


def test_nobody_else_reads_the_environment() -> None:
    reads = re.compile(r"os\.environ(\[|\.get)|getenv|SSPO_[A-Z_]+\"\]")
    found = {str(path.relative_to(SERVICES)) for path in SERVICES.rglob("*.py") if reads.search(path.read_text())}
    assert found <= FOR_CHILDREN


def test_the_defaults_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = PlacementSettings.read()
    assert (placement.max_running_jobs, placement.device) == (1, "auto")
    assert (PageSettings.read().metrics_host, FaultSettings.read().faults) == ("127.0.0.1", None)
    monkeypatch.setenv("SSPO_MAX_RUNNING_JOBS", "3")
    monkeypatch.setenv("SSPO_METRICS_HOST", "")
    assert PlacementSettings.read().max_running_jobs == 3
    assert PageSettings.read().metrics_host == "127.0.0.1"


def test_an_error_names_every_variable_and_shows_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as missing:
        ControllerSettings.read()
    assert str(missing.value) == "SSPO_REDIS_URL is not set; SSPO_DATA is not set; SSPO_RAY_ADDRESS is not set"
    monkeypatch.setenv("SSPO_MAX_RUNNING_JOBS", "hunter2")
    with pytest.raises(SettingsError, match="SSPO_MAX_RUNNING_JOBS: Input should be a valid integer") as wrong:
        PlacementSettings.read()
    assert "hunter2" not in str(wrong.value) and wrong.value.__cause__ is None


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSPO_REDIS_URL", SECRET)
    monkeypatch.setenv("SSPO_API_KEY", "hunter2")
    monkeypatch.setenv("SSPO_DATA", str(tmp_path / "a" / ".."))
    monkeypatch.setenv("SSPO_MAX_UPLOAD_BYTES", "7")
    settings = ApiSettings.read(port=9, host=None)
    assert (settings.redis_url, settings.api_key, settings.max_upload_bytes) == (SECRET, "hunter2", 7)
    assert (settings.host, settings.port, settings.data) == ("127.0.0.1", 9, tmp_path)
    for shown in (settings, StoreSettings.read(), FolderSettings.read()):
        assert "hunter2" not in repr(shown) + str(shown)


def test_weights_and_biases_is_online_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "0123")
    assert _mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert _mode() == "offline"
