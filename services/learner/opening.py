"""A learner with the model of its job, in this process."""

from __future__ import annotations

from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.learner.loop import Learner
from services.learner.model.local import open_backend
from services.learner.pulse import Pulse
from services.store.client import Client


def open_learner(spec: JobSpec, client: Client, layout: Layout, pulse: Pulse | None = None) -> Learner:
    """Load the job's model and make the learner around it. Raises UnknownModel, OutOfMemory."""
    return Learner(spec, client, layout, open_backend(spec, layout), pulse)
