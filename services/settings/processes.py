"""The settings of each process, and of what several of them share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.disk.layout import Layout
from services.settings.base import Settings, SettingsError


class StoreSettings(Settings):
    """Of the grader service and of rollout workers: they need Redis only."""

    redis_url: str = Field(repr=False)
    """Where Redis answers: `redis://`, `rediss://` or `unix://`, with the password if it has one. `sspo up` sets it;
    set it yourself in a cluster, to the same Redis for every process."""


class FolderSettings(StoreSettings):
    """Of learners and reward workers."""

    data: Annotated[Path, AfterValidator(Path.resolve)]
    """The data folder. `sspo up` sets it; in a cluster it is shared storage that all processes see under one path."""

    @property
    def layout(self) -> Layout:
        """The shape of the data folder."""
        return Layout(self.data)


class ControllerSettings(FolderSettings):
    """Of the controller's process."""

    ray_address: str
    """HOST:PORT of Ray's head. `sspo up` sets it; set it yourself in a cluster."""


class PlacementSettings(Settings):
    """Of the controller: how many jobs run, and on what."""

    max_running_jobs: int = Field(default=1, ge=0)
    """How many jobs train at once; the others wait in the queue. Raise it when the cluster has room for the workers of
    several jobs."""
    device: str = "auto"
    """`cpu`: learners and rollout workers ask Ray for no GPU. Anything else: each asks for one where the cluster has
    GPUs. Set `cpu` to leave a machine's GPUs alone."""


class PageSettings(Settings):
    """Of every worker: its page of metrics."""

    metrics_host: str = "127.0.0.1"
    """The address of this node at which workers serve their metrics. Set it, on each node, to an address that
    Prometheus reaches; the pages have no key."""


class FaultSettings(Settings):
    """Of every process, in tests."""

    faults: Path | None = None
    """Folder of armed fault points, at which processes kill or stop themselves. For tests only."""


class ClientSettings(Settings):
    """Of the commands that talk to a service: where it is, when no `--data` says so."""

    url: str | None = None
    """The service's URL, with or without `/v1`. Set it for a service on another machine; goes before `SSPO_DATA`."""
    api_key: str | None = Field(default=None, repr=False)
    """The bearer key of the service at `SSPO_URL`."""
    data: Path | None = None
    """The data folder of a service that `sspo up` started on this machine."""


def _key_in(validated: dict[str, Path]) -> str:
    path = Layout(validated["data"]).api_key
    try:
        key = path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"SSPO_API_KEY is not set and {path} can't be read: {error.strerror}") from error
    if not key:
        raise SettingsError(f"{path} is empty")
    return key


class ApiSettings(FolderSettings):
    """Of the API's process."""

    host: str = "127.0.0.1"
    """The address the API listens on. Set `0.0.0.0` to reach it from other machines; `--host` goes before it."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port the API listens on; `--port` goes before it."""
    api_key: str = Field(default_factory=_key_in, min_length=1, repr=False)
    """The bearer key that every request under /v1 must carry. Unset: the content of the file `api-key` in the data
    folder, which `sspo up` writes."""
    strict_openai_status: bool = False
    """Show only states that the OpenAI SDK's types know (`paused` as `queued`). Set it for clients that validate
    strictly."""
    max_upload_bytes: int = Field(default=512 * 2**20, ge=1)
    """The largest file that may be uploaded, in bytes. Raise it for larger data sets."""
    max_json_bytes: int = Field(default=4 * 2**20, ge=1)
    """The largest JSON body, in bytes. Raise it when jobs with very long grader sources are refused."""
    grader_timeout_seconds: float = Field(default=60.0, gt=0, le=600)
    """How long a grader run or validation may take, in seconds, queueing included. Raise it for slow graders."""
    grader_requests_at_once: int = Field(default=8, ge=1, le=32)
    """How many grader requests are answered at once; further ones get 503, and each holds a thread while it waits.
    Raise it when a grader service with several workers is idle while requests are refused."""


class WandbSettings(Settings):
    """Of a learner whose job reports to Weights & Biases; the variables are that library's own."""

    model_config = SettingsConfigDict(env_prefix="WANDB_")

    mode: str = ""
    """`online` or `offline`. Unset: online with a key, else offline, into the job's folder."""
    api_key: SecretStr | None = None
    """The key at Weights & Biases. Set it for learners, never in a job."""


ALL: tuple[type[Settings], ...] = (
    StoreSettings,
    FolderSettings,
    ControllerSettings,
    PlacementSettings,
    PageSettings,
    ApiSettings,
    ClientSettings,
    WandbSettings,
    FaultSettings,
)
"""In the order of the page."""
