"""/v1/fine_tuning/checkpoints/{checkpoint}/permissions: sharing between organisations, which one host does not have."""

from __future__ import annotations

from fastapi import APIRouter

from services.api.errors import ApiError
from services.job.strict_json import JsonObject

PATH = "/v1/fine_tuning/checkpoints/{checkpoint:path}/permissions"

router = APIRouter()


@router.api_route(PATH, methods=["GET", "POST"], include_in_schema=False)
@router.api_route(PATH + "/{permission_id}", methods=["DELETE"], include_in_schema=False)
def refuse() -> JsonObject:
    """501: there are no other organisations here to share a checkpoint with."""
    raise ApiError(501, "Checkpoint permissions are not offered here", code="not_implemented")
