"""`python -m services.reward`: the standing grader service. Reads SSPO_REDIS_URL; ends cleanly on SIGTERM."""

from __future__ import annotations

import signal

import structlog

from services.observability import logs
from services.reward.service import GraderService
from services.settings.processes import StoreSettings
from services.store.client import connect


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    logs.configure("grader")
    service = GraderService(connect(StoreSettings.read().redis_url))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    log = structlog.get_logger()
    log.info("grader_service_started")
    service.run()
    log.info("grader_service_stopped")


if __name__ == "__main__":
    main()
