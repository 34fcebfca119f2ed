"""The record of a dashboard session that was ended early, in the topic ``webhooks.ended-sessions`` (key: the session's id).

The id is a digest: a reader of the topic cannot make a cookie from it.
"""

from __future__ import annotations

from typing import Literal

from schemas.event import SCHEMA_VERSION
from schemas.own_records import OwnRecord, Time


class EndedSession(OwnRecord, frozen=True, kw_only=True, gc=False):
    """``until`` is when the session would have expired; after that, the record is not needed."""

    schema_version: Literal[1] = SCHEMA_VERSION
    key_id: str
    until: Time
    ended_at: Time
