"""The app factory: routes, errors and what surrounds them. Making an app touches neither network nor disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.api import errors
from services.api.collector import VERSION, registry_for
from services.api.dependencies import Service
from services.api.middleware import BearerKey, BodyLimit, RequestBoundary
from services.api.routes import dead_letters, figures, files, following, graders, jobs, permissions, system, x
from services.api.schemas.errors import ANYTHING_ELSE
from services.settings.processes import ApiSettings

MULTIPART_OVERHEAD_BYTES = 65_536


def create_app(settings: ApiSettings) -> FastAPI:
    """The REST API over the store that `settings` name."""
    service = Service.open(settings)

    @asynccontextmanager
    async def close_store(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.client.close()

    # Paths have one spelling: a redirect would turn a POST into a second request.
    app = FastAPI(title="SSPO", version=VERSION, redirect_slashes=False, lifespan=close_store, responses=ANYTHING_ELSE)
    app.state.service = service
    app.state.metrics, duration_seconds = registry_for(service)
    errors.install(app)
    for module in (files, jobs, graders, permissions, x, figures, following, dead_letters, system):
        app.include_router(module.router)
    upload_bytes = settings.max_upload_bytes + MULTIPART_OVERHEAD_BYTES
    # Added last is outermost.
    app.add_middleware(BodyLimit, settings.max_json_bytes, upload_bytes, files.UPLOAD_PATH)
    app.add_middleware(BearerKey, settings.api_key)
    app.add_middleware(RequestBoundary, duration_seconds)
    return app
