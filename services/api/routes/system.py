"""/healthz, /readyz and /metrics: without a key."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from services.api.dependencies import Svc
from services.api.errors import ApiError
from services.store.client import reachable

router = APIRouter(tags=["system"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(service: Svc) -> JSONResponse:
    """The process can do its work: Redis answers."""
    if not reachable(service.settings.redis_url):
        raise ApiError(503, "Redis does not answer", code="store_unavailable")
    return JSONResponse({"status": "ready"})


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Prometheus exposition: this process, and the job-level figures read from Redis now."""
    registry: CollectorRegistry = request.app.state.metrics
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
