"""The record of an event type in the compacted topic ``webhooks.event-types`` (key: its name): one that was made with the API.

An event type that was removed keeps a last record without an entry, so that who removed it is on record too.
"""

from __future__ import annotations

from typing import Any, Literal

from schemas.event import SCHEMA_VERSION
from schemas.own_records import Int64Value, RewrittenRecord, Time


class EventTypeRecord(RewrittenRecord, frozen=True, kw_only=True):
    """One event type and who changed it last. ``entry`` is what a file of event types would have for it; None: it was removed."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    entry: dict[str, Any] | None = None
    revision: Int64Value = 1
    """Rises by one with every change."""
    created_at: Time
    updated_at: Time
    change: str = "create"
    """create, update, remove"""
    changed_by: str = ""
    former_topics: tuple[str, ...] = ()
    """Topics, without the prefix, that its events were published to before. Fan-outs go on reading them: records may be left there."""
