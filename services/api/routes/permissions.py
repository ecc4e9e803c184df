"""/v1/fine_tuning/checkpoints/{checkpoint}/permissions: sharing between organisations, which one host does not have."""

from __future__ import annotations

from typing import NoReturn

from fastapi import APIRouter

from services.api.errors import ApiError

router = APIRouter(prefix="/v1/fine_tuning/checkpoints/{checkpoint:path}/permissions", tags=["fine-tuning jobs"])


@router.get("")
@router.post("")
@router.delete("/{permission_id}")
def refuse() -> NoReturn:
    """501: there are no other organisations here to share a checkpoint with."""
    raise ApiError(501, "Checkpoint permissions are not offered here", code="not_implemented")
