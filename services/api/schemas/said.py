"""Records of the service in answers. An answer shows the fields that the writer set, as on disk."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import WrapSerializer

from services.records.record import Record

RecordType = TypeVar("RecordType", bound=Record)

# Without annotations, so that the JSON schema is the record's own.
_AS_SAID = WrapSerializer(lambda record, handler: record.plain())

Said = Annotated[RecordType, _AS_SAID]
"""`Said[StepRecord]`: fields that an older version didn't write are absent, not null."""
