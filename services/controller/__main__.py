"""`python -m services.controller`: SSPO_DATA, SSPO_REDIS_URL and SSPO_RAY_ADDRESS say with what."""

from __future__ import annotations

import os
import signal

from services.disk.layout import Layout
from services.observability.logs import configure


def main() -> None:
    configure("controller")
    from services.controller.loop import Controller, connect_ray  # Ray is slow to import: settings are read first
    from services.store.client import connect

    connect_ray(os.environ["SSPO_RAY_ADDRESS"])
    controller = Controller(connect(os.environ["SSPO_REDIS_URL"]), Layout.from_environment())
    signal.signal(signal.SIGTERM, lambda *_: controller.stop())
    signal.signal(signal.SIGINT, lambda *_: controller.stop())
    controller.run()


if __name__ == "__main__":
    main()
