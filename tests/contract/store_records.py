"""Records for the tests of the store: short to write, with every field set by default."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.store.rows import Row, RowPosition, attempt_row, event_row
from schemas.attempt import Attempt, AttemptState, Outcome
from schemas.delivery import Dispatch, Trigger
from schemas.event import EventMeta

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
START = MONDAY + timedelta(hours=12)


def meta(number: int = 1, **changes: Any) -> EventMeta:
    values: dict[str, Any] = {
        "id": f"evt_{number}",
        "event_name": "order_completed",
        "created_at": START + timedelta(seconds=number),
        "order_number": f"R{number:09}",
        "shipment_numbers": (f"H{number:011}", f"H9{number:010}"),
        "subscription_id": f"S{number}",
        "stock_item_id": number,
        "skus": (f"SKU-{number}", "MUG"),
    }
    return EventMeta(**(values | changes))


def attempt(number: int = 1, *, event: EventMeta | None = None, **changes: Any) -> Attempt:
    values: dict[str, Any] = {
        "endpoint_id": 7,
        "target_url": "https://shop.example/hooks",
        "attempt": 1,
        "trigger": Trigger.EVENT,
        "state": AttemptState.SUCCEEDED,
        "outcome": Outcome.DELIVERED,
        "created_at": START + timedelta(seconds=number, milliseconds=123),
        "duration_ms": 12.375,
        "first_byte_ms": 11.25,
        "http_status_code": 204,
        "request_headers": {"webhook-id": f"evt_{number}"},
        "response_headers": (("Server", "nginx"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")),
        "response_body": "Grüße ✓",
    }
    return Attempt(event=event or meta(number), **(values | changes))


def attempt_rows(numbers: range, partition: int = 0, **changes: Any) -> list[Row]:
    """Return rows of attempts, numbered by offset."""
    return [attempt_row(RowPosition(partition, number), attempt(number, **changes)) for number in numbers]


def dispatch(number: int = 1, *, event: EventMeta | None = None, **changes: Any) -> Dispatch:
    values: dict[str, Any] = {
        "endpoint_ids": (7, 8),
        "received_at": START + timedelta(seconds=number, milliseconds=50),
        "source_topic": "oms.orders",
        "source_partition": 3,
        "source_offset": 1000 + number,
    }
    return Dispatch(event=event or meta(number), **(values | changes))


def body(number: int, text: str = "") -> bytes:
    return f'{{"id":"evt_{number}","data":{{"number":"R{number:09}","note":"{text}"}}}}'.encode()


def event_rows(numbers: range, partition: int = 0, text: str = "", **changes: Any) -> list[Row]:
    """Return rows of events, numbered by offset."""
    return [event_row(RowPosition(partition, number), dispatch(number, **changes), body(number, text)) for number in numbers]
