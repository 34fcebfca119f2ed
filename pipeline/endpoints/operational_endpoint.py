"""The built-in endpoint for operational events: it comes from the settings and is not registered."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.core.filters.stored import NO_FILTERS
from pipeline.core.redaction import Redactor
from pipeline.core.signing import SigningKey
from pipeline.endpoints.endpoint import Endpoint
from pipeline.ops.settings import Settings
from schemas.endpoint import EndpointRecord
from schemas.operational import OPERATIONAL_ENDPOINT_ID, OPERATIONAL_NAMES

_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


def operational_endpoint(settings: Settings) -> Endpoint | None:
    """The receiver of operational events; None if none is configured."""
    if not settings.operational_url or settings.operational_secret is None:
        return None
    record = EndpointRecord(
        id=OPERATIONAL_ENDPOINT_ID,
        target_url=settings.operational_url,
        events=OPERATIONAL_NAMES,
        description="Operational events (setting operational_url)",
        created_at=_ALWAYS,
        updated_at=_ALWAYS,
    )
    secret = settings.operational_secret.get_secret_value()
    return Endpoint(
        id=record.id,
        target_url=record.target_url,
        events=frozenset(record.events),
        filters=NO_FILTERS,
        problem=None,
        record=record,
        credential=None,
        headers={},
        _keys=((SigningKey(secret), None),),
        redactor=Redactor(keys=[secret]),
    )
