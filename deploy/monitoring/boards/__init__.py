"""The five dashboards."""

from __future__ import annotations

from deploy.monitoring.boards import drift, graders, job, throughput, workers
from deploy.monitoring.model import Dashboard

DASHBOARDS: tuple[Dashboard, ...] = (
    drift.DASHBOARD,
    throughput.DASHBOARD,
    workers.DASHBOARD,
    graders.DASHBOARD,
    job.DASHBOARD,
)
