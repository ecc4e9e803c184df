"""A learner with the model of its job, in this process."""

from __future__ import annotations

from services.disk.folder_version import FolderRefused, refuse_newer
from services.disk.layout import Layout
from services.job.spec import JobSpec
from services.learner.errors import WrongFolder, typed_disk_errors
from services.learner.loop import Learner
from services.learner.model.local import open_backend
from services.learner.pulse import Pulse
from services.store.client import Client
from services.trajectories.progress import Progress


def open_learner(spec: JobSpec, client: Client, layout: Layout, pulse: Pulse | None = None) -> Learner:
    """Load the job's model and make the learner around it. Raises UnknownModel, and what is in `FATAL`.

    A large model takes minutes. Before it is loaded the job says that its learner starts, so that nobody sees the phase
    in which the one before it died.
    """
    try:
        refuse_newer(layout)
    except FolderRefused as error:
        raise WrongFolder(str(error)) from error
    Progress(client).set(spec.job_id, phase="starting")
    with typed_disk_errors(str(layout.root)):
        return Learner(spec, client, layout, open_backend(spec, layout), pulse)
