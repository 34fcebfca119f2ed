"""An attempt as the store returns it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from pipeline.store.search.queries import AttemptRow

_ROW = AttemptRow(
    id=11,
    event_id="evt_1",
    event_name="shipment_shipped",
    event_created_at=datetime(2026, 3, 2, 15, 4, 0, 512_000, UTC),
    order_number="R758805215",
    shipment_numbers=("H12345678901",),
    subscription_id=None,
    stock_item_id=None,
    skus=("SKU-1", "SKU-2"),
    endpoint_id=7,
    target_url="http://127.0.0.1/hooks",
    attempt=2,
    trigger="repeat",
    state="failed",
    outcome="repeated",
    created_at=datetime(2026, 3, 2, 15, 5, 0, 7_000, UTC),
    duration_ms=12.5,
    first_byte_ms=None,
    http_status_code=503,
    failure=None,
    error="The endpoint returned 503 (Service Unavailable).",
    next_attempt_at=datetime(2026, 3, 2, 15, 6, 0, 0, UTC),
)


def attempt_row(**changes: Any) -> AttemptRow:
    """A failed attempt; ``values`` override its defaults."""
    return dataclasses.replace(_ROW, **changes)
