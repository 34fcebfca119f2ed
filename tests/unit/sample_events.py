"""The sample payloads as events, and small records for tests that need any."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.endpoint import EndpointRecord, SealedSecret
from schemas.event import EventMeta, EventType
from schemas.filter_texts import FilterValue
from schemas.health import HealthFact, HealthRecord

SAMPLES = Path(__file__).parents[2] / "schemas" / "samples"
GOLDEN = Path(__file__).parents[1] / "golden"
NOW = datetime(2026, 3, 2, 15, 4, 0, 512_000, tzinfo=UTC)
HEAD = '"id":"evt_1","event_name":"order_completed","occurred_at":"2026-03-02T15:04:00.512Z"'

META = EventMeta(id="evt_1", event_name="order_completed", created_at=NOW, order_number="R204816339", skus=("KETTLE-1L",))


def payload_of(event_type: EventType) -> bytes:
    """Return the sample payload of an event type, as in its file (pretty-printed, with line breaks)."""
    return (SAMPLES / f"{event_type.value}.json").read_bytes().strip()


def event_of(event_type: EventType, *, more: str = "") -> bytes:
    """Return the sample event of a type; ``more`` is added to the envelope."""
    head = HEAD.replace("order_completed", event_type.value)
    return f"{{{head}{more},".encode() + b'"data":' + payload_of(event_type) + b"}"


def event(data: str = '{"number":"R1"}', *, head: str = HEAD, more: str = "") -> bytes:
    """Return an event around ``data``, by default a small order; ``more`` is added to the envelope."""
    return f'{{{head},"data":{data}{more}}}'.encode()


def endpoint_record(
    endpoint_id: int = 7,
    *,
    target_url: str | None = None,
    events: tuple[str, ...] = ("order_completed",),
    secrets: tuple[SealedSecret, ...] = (),
    sealed_token: str | None = None,
    filters: dict[str, tuple[FilterValue, ...]] | None = None,
    active: bool = True,
    deleted: bool = False,
    version: int = 1,
) -> EndpointRecord:
    """Return an endpoint's record."""
    return EndpointRecord(
        id=endpoint_id,
        target_url=target_url or f"https://hooks.example.com/{endpoint_id}",
        events=events,
        secrets=secrets,
        sealed_token=sealed_token,
        filters=filters or {},
        active=active,
        deleted=deleted,
        version=version,
        created_at=NOW,
        updated_at=NOW,
    )


def disabled(endpoint_id: int = 7, *, endpoint_version: int = 1) -> HealthRecord:
    """Return the fact that an endpoint was disabled because it answered 410."""
    return HealthRecord(
        endpoint_id=endpoint_id,
        endpoint_version=endpoint_version,
        fact=HealthFact.DISABLED,
        at=NOW,
        reason="gone",
        detail="The endpoint answered 410 (Gone).",
    )


def held_fact(endpoint_id: int, count: int, *, partition: int = 2, counted: int = 5_000, minutes: int = 0) -> HealthRecord:
    """Return the fact that deliveries to an endpoint wait in a partition, the oldest for this many minutes."""
    return HealthRecord(
        endpoint_id=endpoint_id,
        endpoint_version=1,
        fact=HealthFact.HELD,
        at=NOW,
        since=NOW - timedelta(minutes=minutes) if count else None,
        partition=partition,
        held=count,
        counted=counted,
        counted_at=NOW,
    )
