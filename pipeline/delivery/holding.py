"""Held deliveries: what is due for a paused or disabled endpoint waits in ``webhooks.held`` and uses up no attempt.

``DeliveryPublisher.hold`` writes it there. ``consumers/held_deliveries.py`` keeps it, and releases it when the endpoint is resumed.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.core.held_ledger import OffsetBound
from pipeline.endpoints.endpoint import Endpoint
from schemas.endpoint import EndpointRecord, HeldDrop

_TOLD_BEFORE: Final = timedelta(days=2)


class HeldAction(enum.Enum):
    """What happens to a held delivery now."""

    WAIT = enum.auto()
    RELEASE = enum.auto()
    DROP = enum.auto()
    DELETED = enum.auto()
    EXPIRE = enum.auto()


def action_for(
    endpoint: Endpoint | None, partition: int, place: OffsetBound, *, is_deleted: bool, is_too_old: bool
) -> HeldAction:
    """Decide about the delivery at this place in a partition of ``webhooks.held``.

    If the endpoint is neither known nor deleted, this process has not read it yet, so the delivery waits. A dropped delivery
    stays dropped even if the endpoint was resumed afterwards. If the endpoint is active again, even an old delivery is released.
    """
    if endpoint is None and is_deleted:
        return HeldAction.DELETED
    if endpoint is not None and drop_of(endpoint.record, partition, place) is not None:
        return HeldAction.DROP
    if endpoint is not None and endpoint.active:
        return HeldAction.RELEASE
    return HeldAction.EXPIRE if is_too_old else HeldAction.WAIT


def drop_of(record: EndpointRecord, partition: int, place: OffsetBound) -> HeldDrop | None:
    """The drop that covers the delivery at this place, if there is one."""
    for drop in record.drops:
        if drop.partition == partition and OffsetBound(drop.below, milliseconds(drop.until)).is_above(place):
            return drop
    return None


def warning_lead_time(hold: timedelta) -> timedelta:
    """How long before it expires a delivery that may wait for ``hold`` is reported."""
    return min(_TOLD_BEFORE, hold / 2)


def milliseconds(time: datetime) -> int:
    """Milliseconds since 1970, as Kafka writes times."""
    return round(time.timestamp() * 1000)


def from_milliseconds(time_ms: int) -> datetime:
    """The inverse of :func:`milliseconds`."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)
