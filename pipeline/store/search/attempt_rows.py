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
_TUPLES: Final = frozenset({"shipment_numbers", "skus"})
_EMPTY_IS_NONE: Final = frozenset({"order_number", "subscription_id", "failure", "error"})


def attempt_of(row: Sequence[Any]) -> AttemptRow:
    """The attempt in a row with the columns ``ATTEMPT_COLUMNS``."""
    values = dict(zip(ATTEMPT_COLUMNS, row, strict=True))
    values.update({name: tuple(values[name]) for name in _TUPLES})
    values.update({name: values[name] or None for name in _EMPTY_IS_NONE})
    return AttemptRow(**values)
