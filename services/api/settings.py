"""What one API process is told from outside, all by environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from services.disk.layout import Layout

ENVIRONMENT = {
    "data": "SSPO_DATA",
    "redis_url": "SSPO_REDIS_URL",
    "api_key": "SSPO_API_KEY",
    "strict_openai_status": "SSPO_STRICT_OPENAI_STATUS",
    "max_upload_bytes": "SSPO_MAX_UPLOAD_BYTES",
    "grader_timeout_seconds": "SSPO_GRADER_TIMEOUT_SECONDS",
}


class SettingsError(ValueError):
    """The environment lacks something, or says something unusable."""


class Settings(BaseModel):
    """Settings of the API."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    data: Path
    """The data folder."""
    redis_url: str
    api_key: str = Field(min_length=1, repr=False)
    """The bearer key that every request under /v1 must carry."""
    strict_openai_status: bool = False
    """Show only states that the OpenAI SDK's types know (`paused` as `queued`), for clients that validate strictly."""
    max_upload_bytes: int = Field(default=512 * 2**20, ge=1)
    max_json_bytes: int = Field(default=4 * 2**20, ge=1)
    grader_timeout_seconds: float = Field(default=60.0, gt=0, le=600)
    """How long a grader run or validation may take, queueing included."""
    grader_requests_at_once: int = Field(default=8, ge=1, le=32)
    """Further grader requests are answered 503; each holds a thread while it waits."""

    @property
    def layout(self) -> Layout:
        return Layout(self.data)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables of `ENVIRONMENT`; the key may also lie in DIR/api-key. Raises SettingsError."""
        values = {field: environment[name] for field, name in ENVIRONMENT.items() if environment.get(name)}
        for field in ("data", "redis_url"):
            if field not in values:
                raise SettingsError(f"{ENVIRONMENT[field]} is not set")
        data = Path(values.pop("data")).resolve()
        if "api_key" not in values:
            values["api_key"] = _read_key(Layout(data).api_key)
        try:
            return cls.model_validate({"data": data, **values})
        except ValueError as error:
            raise SettingsError(str(error)) from error


def _read_key(path: Path) -> str:
    try:
        key = path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"SSPO_API_KEY is not set and {path} can't be read: {error.strerror}") from error
    if not key:
        raise SettingsError(f"{path} is empty")
    return key
