"""Job files, and finding the service they go to."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.connection import NoService, find
from services.cli.job_file import BadJobFile, read


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


def test_paths_beside_the_job_file_are_to_be_uploaded(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("{}")
    job = read(write(tmp_path, "model: tiny\ntraining_file: data/train.jsonl\nvalidation_file: file-abc\n"))
    assert job.uploads == {"training_file": tmp_path / "data" / "train.jsonl"}
    assert job.body["validation_file"] == "file-abc"


@pytest.mark.parametrize(
    ("text", "value"), [("3e-4", 3e-4), ("1E3", 1e3), ("-2.5e+1", -25.0), ("0.5", 0.5), ("7", 7), ("'3e-4'", "3e-4")]
)
def test_numbers_are_read_as_they_look(tmp_path: Path, text: str, value: object) -> None:
    assert read(write(tmp_path, f"rate: {text}\n")).body == {"rate": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping"),
        ("- a\n- b\n", "expected a mapping"),
        ("model: [", "not YAML"),
        ("model: !!python/object:os.system {}", "not YAML"),
        ("training_file: no.jsonl", "training_file: no file"),
        ("metadata: {day: 2026-01-01}", "JSON can't carry"),
    ],
)
def test_a_bad_job_file_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadJobFile, match=message):
        read(write(tmp_path, text))
    with pytest.raises(BadJobFile, match="No such file"):
        read(tmp_path / "none.yaml")


def test_a_service_is_found_by_folder_or_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "up.json").write_text('{"url": "http://127.0.0.1:9"}')
    (tmp_path / "api-key").write_text("sk-folder\n")
    monkeypatch.setenv("SSPO_DATA", str(tmp_path))
    assert find(None).key == "sk-folder"
    monkeypatch.setenv("SSPO_DATA", str(tmp_path / "other"))
    monkeypatch.setenv("SSPO_URL", "http://host:1/v1/")
    monkeypatch.setenv("SSPO_API_KEY", "sk-env")
    assert (find(tmp_path).url, find(tmp_path).key) == ("http://127.0.0.1:9", "sk-folder")
    assert (find(None).url, find(None).key) == ("http://host:1", "sk-env")
    assert "sk-env" not in repr(find(None))


@pytest.mark.parametrize(
    ("state", "message"), [(None, "no service was started"), ("{", "does not say"), ("[]", "does not say")]
)
def test_a_service_that_is_not_there_is_an_error(
    tmp_path: Path, state: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSPO_DATA", "SSPO_URL", "SSPO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    if state is not None:
        (tmp_path / "up.json").write_text(state)
        (tmp_path / "api-key").write_text("sk")
    with pytest.raises(NoService, match=message):
        find(tmp_path)
    with pytest.raises(NoService, match="--data"):
        find(None)
    monkeypatch.setenv("SSPO_URL", "http://host:1")
    with pytest.raises(NoService, match="SSPO_API_KEY"):
        find(None)
