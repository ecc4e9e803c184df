"""`python -m services.api`: serve the API until told to stop. Settings come from the environment."""

from __future__ import annotations

import argparse

import uvicorn

from services.api.app import create_app
from services.api.ui.mount import mount_dashboard
from services.observability.logs import configure
from services.settings.base import SettingsError
from services.settings.processes import ApiSettings

GRACE_SECONDS = 2
"""Streams of events are cut after this long at a shutdown; clients resume them by the last event's id."""


def main() -> None:
    """Parse, then serve."""
    parser = argparse.ArgumentParser(prog="python -m services.api", description="The REST API")
    parser.add_argument("--host", help="the address to listen on, instead of SSPO_HOST")
    parser.add_argument("--port", type=int, help="the port to listen on, instead of SSPO_PORT")
    arguments = parser.parse_args()
    configure("api")
    try:
        settings = ApiSettings.read(host=arguments.host, port=arguments.port)
    except SettingsError as error:
        parser.error(str(error))
    app = create_app(settings)
    mount_dashboard(app)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()
