"""Operational events, for the people who run the pipeline: topic ``webhooks.operational-events``, key: the endpoint's id.

They have the envelope of the OMS's events, are signed, repeated, recorded and found like those, and go to one receiver only, which
is set by ``operational_url``.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from schemas.event import SCHEMA_VERSION, EventMeta, Int64, SchemaVersion

ENDPOINT_DISABLED: Final = "endpoint.disabled"
OPERATIONAL_ENDPOINT_ID: Final = 0
"""The id of the built-in receiver. Registered endpoints count from 1."""


class DisabledEndpoint(BaseModel):
    """The data of ``endpoint.disabled``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: Int64
    target_url: str
    description: str
    reason: str
    detail: str
    disabled_at: AwareDatetime
    failing_since: AwareDatetime | None = None


class OperationalEvent(BaseModel):
    """An operational event. Its id is the same however often one occurrence is told, by whichever process."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: SchemaVersion = SCHEMA_VERSION
    id: str
    event_name: Literal["endpoint.disabled"]
    occurred_at: AwareDatetime
    data: DisabledEndpoint

    @property
    def meta(self) -> EventMeta:
        """The event without its data."""
        return EventMeta(id=self.id, event_name=self.event_name, created_at=self.occurred_at)
