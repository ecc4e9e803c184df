"""`python -m services.controller`: SSPO_DATA, SSPO_REDIS_URL and SSPO_RAY_ADDRESS say with what."""

from __future__ import annotations

import signal

from services.observability.logs import configure
from services.settings.processes import ControllerSettings


def main() -> None:
    configure("controller")
    settings = ControllerSettings.read()
    from services.controller.loop import Controller, connect_ray  # Ray is slow to import: settings are read first
    from services.store.client import connect

    connect_ray(settings.ray_address)
    controller = Controller(connect(settings.redis_url), settings.layout)
    signal.signal(signal.SIGTERM, lambda *_: controller.stop())
    signal.signal(signal.SIGINT, lambda *_: controller.stop())
    controller.run()


if __name__ == "__main__":
    main()
