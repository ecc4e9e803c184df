"""/healthz, /readyz and /metrics: without a key."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from services.api.dependencies import Svc
from services.api.errors import ApiError
from services.api.schemas.errors import documented, no_json
from services.api.schemas.system import Health
from services.store.client import reachable

router = APIRouter(tags=["system"])


@router.get("/healthz")
def healthz() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get("/readyz", responses=documented(503))
def readyz(service: Svc) -> Health:
    """The process can do its work: Redis answers."""
    if not reachable(service.settings.redis_url):
        raise ApiError(503, "Redis does not answer", code="store_unavailable")
    return Health(status="ready")


@router.get("/metrics", response_class=Response, responses=no_json("text/plain"))
def metrics(request: Request) -> Response:
    """Prometheus exposition: this process, and the job-level figures read from Redis now."""
    registry: CollectorRegistry = request.app.state.metrics
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
