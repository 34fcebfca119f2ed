"""The progress of a lane: records of the compacted topic ``webhooks.ordered-progress``. A record's key is that of the lane.

A lane is one endpoint and one record key. Its deliveries wait in ``webhooks.ordered``, and are made one after the other.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from msgspec import Meta

from schemas.delivery import MAX_ATTEMPT
from schemas.event import SCHEMA_VERSION
from schemas.own_records import OffsetValue, OwnRecord


class TakenEvent(NamedTuple):
    """The last processed event of a partition of a source topic: its offset, and the latest time up to it (milliseconds)."""

    offset: OffsetValue
    time_ms: int


class LaneProgress(OwnRecord, frozen=True, kw_only=True, gc=False):
    """All deliveries of the lane below ``done`` have ended; ``done_ms`` is the time of the last of them.

    A recreated topic starts again at offset 0, and its records are younger than ``done_ms``.

    ``attempt`` is the next attempt of the delivery at ``head``, due at ``due_ms``, ``delay_ms`` after the one before. Without a
    head, the next delivery starts with its first attempt. ``taken`` says up to where events of each source partition
    (``oms.orders/3``) have ended, so that an event that a fan-out wrote twice is sent once.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    done: OffsetValue = 0
    done_ms: int = 0
    head: OffsetValue | None = None
    attempt: Annotated[int, Meta(ge=1, le=MAX_ATTEMPT)] = 1
    due_ms: int = 0
    delay_ms: Annotated[int, Meta(ge=0)] = 0
    taken: dict[str, TakenEvent] = {}  # noqa: RUF012 - msgspec copies it


def lane_key(endpoint_id: int, record_key: str) -> bytes:
    """The key of a lane, and of all its records."""
    return f"{endpoint_id}/{record_key}".encode()
