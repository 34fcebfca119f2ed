"""The record of an event type that was added with the API, in the compacted topic ``webhooks.event-types`` (key: its name).

A removed event type keeps a last record without an entry, which says who removed it.
"""

from __future__ import annotations

from typing import Any, Literal

from schemas.event import SCHEMA_VERSION
from schemas.own_records import Int64Value, RewrittenRecord, Time


class EventTypeRecord(RewrittenRecord, frozen=True, kw_only=True):
    """One event type and who changed it last. ``entry`` is its entry as in a file of event types; None: it was removed."""

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
    """Earlier topics of its events, without the prefix. Fan-outs continue to read them: they may still contain records."""
