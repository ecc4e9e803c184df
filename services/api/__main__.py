"""`python -m services.api`: serve the API until told to stop. Settings come from the environment."""

from __future__ import annotations

import argparse
import os

import uvicorn

from services.api.app import create_app
from services.api.settings import Settings, SettingsError
from services.api.ui.mount import mount_dashboard
from services.observability.logs import configure

GRACE_SECONDS = 2
"""Streams of events are cut after this long at a shutdown; clients resume them by the last event's id."""


def main() -> None:
    """Parse, then serve."""
    parser = argparse.ArgumentParser(prog="python -m services.api", description="The REST API")
    parser.add_argument("--host", default=os.environ.get("SSPO_HOST", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("SSPO_PORT", "8000")))
    arguments = parser.parse_args()
    configure("api")
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        parser.error(str(error))
    app = create_app(settings)
    mount_dashboard(app)
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()
