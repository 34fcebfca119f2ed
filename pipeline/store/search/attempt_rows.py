"""An attempt as a search returns it, for lists: the columns, and a row as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt as lists show it: without headers and bodies. Times are UTC, durations milliseconds."""

    id: int
    event_id: str
    event_name: str
    event_created_at: datetime
    order_number: str | None
    shipment_numbers: tuple[str, ...]
    subscription_id: str | None
    stock_item_id: int | None
    skus: tuple[str, ...]
    endpoint_id: int
    target_url: str
    attempt: int
    trigger: str
    state: str
    outcome: str
    created_at: datetime
    duration_ms: float
    first_byte_ms: float | None
    http_status_code: int | None
    failure: str | None
    error: str | None
    next_attempt_at: datetime | None


ATTEMPT_COLUMNS: Final = tuple(field.name for field in fields(AttemptRow))
EVENT_COLUMNS: Final = (
    *("event_name", "event_created_at", "order_number", "shipment_numbers", "subscription_id", "stock_item_id", "skus"),
)
"""What all attempts of an event have in common, besides its id."""
OWN_COLUMNS: Final = tuple(name for name in ATTEMPT_COLUMNS if name not in EVENT_COLUMNS)
"""The other columns of an attempt."""
_TUPLES: Final = frozenset({"shipment_numbers", "skus"})
_EMPTY_IS_NONE: Final = frozenset({"order_number", "subscription_id", "failure", "error"})


def attempt_of(row: Sequence[Any]) -> AttemptRow:
    """The attempt in a row with the columns `ATTEMPT_COLUMNS`."""
    return _attempt(dict(zip(ATTEMPT_COLUMNS, row, strict=True)))


def attempt_of_event(row: Sequence[Any], event: Sequence[Any]) -> AttemptRow:
    """The attempt in a row with the columns `OWN_COLUMNS`, and in one with the `EVENT_COLUMNS` of its event."""
    return _attempt(dict(zip(OWN_COLUMNS, row, strict=True)) | dict(zip(EVENT_COLUMNS, event, strict=True)))


def _attempt(values: dict[str, Any]) -> AttemptRow:
    values.update({name: tuple(values[name]) for name in _TUPLES})
    values.update({name: values[name] or None for name in _EMPTY_IS_NONE})
    return AttemptRow(**values)
