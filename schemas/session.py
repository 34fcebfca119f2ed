"""The record of a dashboard session that ended before its time, in the topic ``webhooks.ended-sessions`` (key: the session's id).

The id is a digest: who reads the topic can make no cookie of it.
"""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict

from schemas.event import SCHEMA_VERSION, SchemaVersion


class EndedSession(BaseModel):
    """``until`` is when the session would have ended by itself; from then on nobody needs the record."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: SchemaVersion = SCHEMA_VERSION
    key_id: str
    until: AwareDatetime
    ended_at: AwareDatetime
