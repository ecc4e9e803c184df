"""Step records as a run at Weights & Biases, named after the job, so that a restart goes on with it.

The key is `WANDB_API_KEY` in the environment of the learner's process, never in a job. Without one, or with
`WANDB_MODE=offline`, the run is written to the job's folder, from where `wandb sync` sends it. Charts are over our own
`step`, since that of W&B may not go back. After a rollback W&B shows both lineages, the surviving one later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.job.spec import JobSpec, WandbSpec
from services.settings.processes import WandbSettings


class WandbSink:
    """One run; begun when it is made. Raises what the library raises."""

    def __init__(self, asked: WandbSpec, spec: JobSpec, folder: Path) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run: Any = wandb.init(
            project=asked.project,
            name=asked.name,
            entity=asked.entity,
            tags=list(asked.tags),
            id=spec.job_id,
            resume="allow",
            mode=_mode(),
            dir=str(folder.parent),  # the library adds `wandb` itself
            config=spec.model_dump(mode="json", include={"model", "seed", "objective", "rollout", "learner"}),
            settings=wandb.Settings(
                console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True
            ),
        )
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Append one step."""
        self._run.log({"step": step, **figures})

    def close(self) -> None:
        """Send or write what is left."""
        self._run.finish()


def _mode() -> Any:
    settings = WandbSettings.read()
    return settings.mode or ("online" if settings.api_key else "offline")
