"""Our own records: round trips, additions of newer releases, and the bytes of version 1, which must be readable for ever."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace
from pydantic import TypeAdapter

from schemas.api_key import Access, ApiKeyRecord
from schemas.attempt import Attempt, AttemptState, Outcome
from schemas.audit import AuditAction, AuditEntry
from schemas.codec import MAX_METADATA_BYTES, InvalidRecordError, from_header, from_json, to_header, to_json
from schemas.delivery import (
    DEAD_LETTER_HEADER,
    DELIVERY_HEADER,
    DISPATCH_HEADER,
    DeadLetter,
    DeadLetterReason,
    DeliveryRecord,
    Dispatch,
    Trigger,
)
from schemas.ended_session import EndedSession
from schemas.endpoint import EndpointRecord, SealedSecret
from schemas.event import SCHEMA_VERSION, EventMeta
from schemas.event_codec import decode_event, webhook_body
from schemas.health import HealthFact, HealthRecord
from schemas.lane_progress import LaneProgress, TakenEvent
from schemas.missing_records import MissingRecord
from schemas.operational import DisabledEndpoint, OperationalEvent
from schemas.own_records import OwnRecord, RewrittenRecord, members_of
from schemas.rate_share import RateShareRecord
from schemas.topic_ids import TopicIdsRecord
from tests.unit.sample_events import GOLDEN, META, NOW, endpoint_record

DELIVERY = DeliveryRecord(event=META, endpoint_id=7, attempt=3, trigger=Trigger.RESEND, parked=2)
DISPATCH = Dispatch(
    event=META, endpoint_ids=(7, 12), received_at=NOW, source_topic="oms.orders", source_partition=3, source_offset=2**40
)
DEAD_LETTER = DeadLetter(
    reason=DeadLetterReason.NOT_JSON,
    detail="The value is not JSON: é “quoted”.",
    topic="oms.orders",
    partition=3,
    offset=41,
    failed_at=NOW,
)
ATTEMPT = Attempt(
    event=META,
    endpoint_id=7,
    target_url="https://hooks.example.com/7",
    attempt=1,
    trigger=Trigger.EVENT,
    state=AttemptState.SUCCEEDED,
    outcome=Outcome.DELIVERED,
    created_at=NOW,
    duration_ms=1.5,
    request_headers={"webhook-id": "evt_1"},
    response_headers=(("A", "1"), ("A", "2")),
)
ENDPOINT = endpoint_record(
    secrets=(SealedSecret(sealed="x", expires_at=NOW),), sealed_token="y", filters={"channel": ("spree", None, True, 1, 2.5, "1")}
)
HEALTH = HealthRecord(
    endpoint_id=7, endpoint_version=3, fact=HealthFact.CIRCUIT, at=NOW, circuit="open", until=NOW + timedelta(seconds=5)
)
OPERATIONAL = OperationalEvent(
    id="endpoint-disabled_7_3",
    event_name="endpoint.disabled",
    occurred_at=NOW,
    data=Raw(
        to_json(
            DisabledEndpoint(
                id=7,
                target_url="https://hooks.example.com/7",
                description="ERP",
                reason="gone",
                detail="The endpoint answered 410 (Gone).",
                disabled_at=NOW,
            )
        )
    ),
)
RECORDS: list[OwnRecord] = [DELIVERY, DISPATCH, DEAD_LETTER, ATTEMPT, ENDPOINT, HEALTH, OPERATIONAL]
NAMES = [type(record).__name__ for record in RECORDS]


# --- round trips ---


@pytest.mark.parametrize("record", RECORDS, ids=NAMES)
def test_records_survive_a_round_trip(record: OwnRecord) -> None:
    name, value = to_header("oms-webhooks-x", record)

    read = from_header([("other", b"{}"), (name, value)], "oms-webhooks-x", type(record))

    assert name == "oms-webhooks-x"
    assert read == record
    # 1 == 1.0 == True in Python, but they are different values in JSON.
    assert json.loads(to_header(name, read)[1]) == json.loads(value)
    assert to_header(name, read)[1] == value


@pytest.mark.parametrize("record", RECORDS, ids=NAMES)
def test_additions_of_a_newer_release_are_kept(record: OwnRecord) -> None:
    document = json.loads(to_json(record))
    _add_to_every_object(document)

    read = from_json(json.dumps(document).encode(), type(record))

    if not isinstance(record, RewrittenRecord):  # it is read and not written again; what is known about its event is passed on
        document = {name: value for name, value in document.items() if name in type(record).__struct_fields__}
    assert json.loads(to_json(read)) == document


def _add_to_every_object(value: Any) -> None:
    """Add a member wherever a model has members. Maps (headers, filters) have their own keys and get none."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name not in {"request_headers", "filters", "sealed_headers", "event_type_versions"}:
                _add_to_every_object(part)
        value["of a newer release"] = {"a": [1, "x", None]}
    elif isinstance(value, list):
        for part in value:
            _add_to_every_object(part)


def test_additions_of_a_newer_fan_out_about_an_event_reach_the_attempt() -> None:
    document = json.loads(to_json(DELIVERY))
    document["event"]["region"] = "eu"
    delivery = from_json(json.dumps(document).encode(), DeliveryRecord)

    attempt = replace(ATTEMPT, event=delivery.event)

    assert json.loads(to_json(attempt))["event"]["region"] == "eu"


# --- refusals ---


@pytest.mark.parametrize("record", RECORDS, ids=NAMES)
def test_a_newer_major_version_is_refused(record: OwnRecord) -> None:
    newest = getattr(record, "newest_version", SCHEMA_VERSION)
    document = json.loads(to_json(record)) | {"schema_version": newest + 1}

    with pytest.raises(InvalidRecordError, match=f"schema_version {newest + 1}; this release reads up to {newest}") as caught:
        from_json(json.dumps(document).encode(), type(record))
    assert caught.value.reason is DeadLetterReason.UNSUPPORTED_VERSION


@pytest.mark.parametrize("version", ["2", 2.0, 10**10])
def test_a_newer_major_version_is_refused_however_it_is_spelled(version: object) -> None:
    document = json.loads(to_json(DELIVERY)) | {"schema_version": version}

    with pytest.raises(InvalidRecordError):
        from_json(json.dumps(document).encode(), DeliveryRecord)


@pytest.mark.parametrize(
    ("value", "reason", "sentence"),
    [
        (None, "null_value", "The record has no value."),
        (b"", "not_json", "The value is not JSON: "),
        (b"[1]", "invalid_envelope", "The value is not a JSON object: "),
        (b"{}", "invalid_record", "event: Field required; endpoint_id: Field required; attempt: Field required."),
        (b'{"event":7,"endpoint_id":"x","attempt":0}', "invalid_record", "event: "),
        (b"[" * 50_000, "invalid_envelope", "The value is not a JSON object: "),
        (b'{"x":' + b"[" * 50_000, "not_json", "The value is nested too deeply."),
    ],
)
def test_invalid_records_are_refused_with_a_reason(value: bytes | None, reason: str, sentence: str) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        from_json(value, DeliveryRecord)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(sentence)


def test_a_refusal_contains_no_values() -> None:
    value = (
        b'{"event":{"id":["hidden"],"event_name":{"hidden":1},"created_at":"hidden"},"endpoint_id":"hidden","attempt":"hidden"}'
    )

    with pytest.raises(InvalidRecordError) as caught:
        from_json(value, DeliveryRecord)
    assert "hidden" not in str(caught.value)


def test_a_missing_or_empty_header_is_refused() -> None:
    with pytest.raises(InvalidRecordError, match="The record has no header oms-webhooks-delivery") as missing:
        from_header([(DISPATCH_HEADER, b"{}")], DELIVERY_HEADER, DeliveryRecord)
    assert missing.value.reason is DeadLetterReason.INVALID_RECORD

    null: Any = None  # Kafka allows headers without a value
    with pytest.raises(InvalidRecordError) as empty:
        from_header([(DELIVERY_HEADER, null)], DELIVERY_HEADER, DeliveryRecord)
    assert empty.value.reason is DeadLetterReason.NULL_VALUE


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt: int) -> None:
    document = json.loads(to_json(DELIVERY)) | {"attempt": attempt}

    with pytest.raises(InvalidRecordError, match="attempt: "):
        from_json(json.dumps(document).encode(), DeliveryRecord)


@pytest.mark.parametrize(
    ("record", "path"),
    [
        (DELIVERY, ("event", "created_at")),
        (DISPATCH, ("received_at",)),
        (DEAD_LETTER, ("failed_at",)),
        (ATTEMPT, ("created_at",)),
        (ENDPOINT, ("updated_at",)),
        (HEALTH, ("until",)),
        (OPERATIONAL, ("data", "disabled_at")),
        (ENDPOINT, ("secrets", 0, "expires_at")),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, OwnRecord) else ".".join(map(str, value)),
)
def test_a_time_without_an_offset_is_refused(record: OwnRecord, path: tuple[str | int, ...]) -> None:
    document = json.loads(to_json(record))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = "2026-03-02T15:04:00"

    with pytest.raises(InvalidRecordError):
        from_json(json.dumps(document).encode(), type(record))


def test_the_header_names_are_fixed() -> None:
    assert (DELIVERY_HEADER, DISPATCH_HEADER, DEAD_LETTER_HEADER) == (
        "oms-webhooks-delivery",
        "oms-webhooks-dispatch",
        "oms-webhooks-dead-letter",
    )


# --- golden bytes: version 1 of every record, never to be changed ---


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.v1.json").read_bytes().rstrip(b"\n")


ORDER_META = EventMeta(
    id="evt_1",
    event_name="order_completed",
    created_at=NOW,
    order_number="R204816339",
    shipment_numbers=("H10000000801",),
    subscription_id="S-77",
    skus=("KETTLE-1L", "CUPS-4"),
)
SECOND = timedelta(seconds=1)
NOON = datetime(2026, 3, 2, 15, 4, tzinfo=UTC)

GOLDEN_RECORDS: dict[str, OwnRecord] = {
    "delivery": DeliveryRecord(event=ORDER_META, endpoint_id=7, attempt=3, trigger=Trigger.RETRY, parked=2),
    "dispatch": Dispatch(
        event=EventMeta(id="evt_2", event_name="stock_item_out_of_stock", created_at=NOON, stock_item_id=9002, skus=("CUPS-4",)),
        endpoint_ids=(7, 12),
        received_at=NOON + 0.6 * SECOND,
        source_topic="oms.stock-items",
        source_partition=3,
        source_offset=41,
    ),
    "dead_letter": DeadLetter(
        reason=DeadLetterReason.INVALID_ENVELOPE,
        detail="id: Field required.",
        topic="oms.orders",
        partition=3,
        offset=41,
        failed_at=NOON + SECOND,
    ),
    "attempt": Attempt(
        event=EventMeta(id="evt_1", event_name="order_completed", created_at=NOW, order_number="R204816339"),
        endpoint_id=7,
        target_url="https://hooks.example.com/7",
        attempt=2,
        trigger=Trigger.RESEND,
        state=AttemptState.FAILED,
        outcome=Outcome.RETRIED,
        created_at=NOON + 5 * SECOND,
        duration_ms=12.345,
        first_byte_ms=10.5,
        http_status_code=503,
        error="The endpoint answered 503 (Service Unavailable); only 200, 201, 202 and 204 acknowledge a notification.",
        next_attempt_at=NOON + 65 * SECOND,
        request_headers={"content-type": "application/json", "webhook-id": "evt_1"},
        response_headers=(("Retry-After", "30"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")),
        response_body="/w==",
        response_body_encoding="base64",
        response_truncated=True,
    ),
    "endpoint": EndpointRecord(
        id=7,
        target_url="https://hooks.example.com/7",
        events=("order_completed", "shipment_shipped"),
        description="ERP",
        active=False,
        filters={"channel": ("spree", None), "covered_by_store_credit": (True,), "total_quantity": (1, 2.5)},
        sealed_token="gAAAAAB-token",
        secrets=(SealedSecret(sealed="gAAAAAB-new"), SealedSecret(sealed="gAAAAAB-old", expires_at=NOON + timedelta(days=1))),
        created_at=NOON,
        updated_at=NOON + timedelta(hours=1),
        version=4,
        change="rotate_secret",
        changed_by="api",
    ),
    "health": HEALTH,
    "operational": OPERATIONAL,
    "api_key": ApiKeyRecord(
        id="0a1b2c3d",
        name="Ada",
        role=Access.OPERATOR,
        sha256="0a1b2c3d" * 8,
        created_at=NOON,
        created_by="api-key:4e5f6a7b",
        revoked_at=NOON + timedelta(days=1),
        revoked_by="api-key:4e5f6a7b",
    ),
    "audit": AuditEntry(
        at=NOON,
        actor="api-key:0a1b2c3d",
        role=Access.OPERATOR,
        action=AuditAction.VIEW_BODY,
        subject="attempt 1024",
        detail="event evt_1",
        remote_address="192.0.2.7",
    ),
    "ended_session": EndedSession(key_id="0a1b2c3d", until=NOON + timedelta(hours=12), ended_at=NOON + timedelta(hours=1)),
    "lane_progress": LaneProgress(
        done=4712,
        done_ms=1_772_463_840_512,
        head=4713,
        attempt=3,
        due_ms=1_772_463_900_512,
        delay_ms=60_000,
        taken={"oms.orders/3": TakenEvent(880, 1_772_463_840_500)},
    ),
    "rate_share": RateShareRecord(process="0b8a7c526f0e4b579d2f3f0c7f6a1e10", endpoint_ids=(7, 12)),
    "topic_ids": TopicIdsRecord(ids={"oms.orders": "0b8a7c52-6f0e-4b57-9d2f-3f0c7f6a1e10"}, at=NOON + timedelta(hours=1)),
    "missing": MissingRecord(
        group="webhooks.fanout",
        topic="oms.orders",
        partition=3,
        first=100,
        until=460,
        records=360,
        since=NOON,
        at=NOON + timedelta(hours=1),
    ),
}


ADDED = {
    "api_key": {"owner", "last_used_at"},
    "audit": {"actor_name"},
    "dead_letter": {"null_value", "truncated"},
    "delivery": {"traceparent", "tracestate"},
    "dispatch": {"body_bytes"},
    "endpoint": {
        *("max_per_second", "activated_version", "sealed_headers", "drops", "expressions", "disabled_at", "disabled_by"),
        *("retry_policy", "authentication", "key_pairs", "signature_header", "client_certificate", "ordered"),
        *("verification", "verified_url", "verified_at", "verified_origin", "verification_problem"),
        "event_type_versions",
    },
    "health": {
        *("partition", "held", "done", "done_at", "counted", "counted_at", "event_id", "expression", "count"),
        *("process", "told"),
    },
}
"""What has been added to the records since their golden bytes were written."""
ADDED_TO_EVENT = {"received_at", "key", "sequence"}
"""What has been added to the event that several of them contain."""


@pytest.mark.parametrize("name", GOLDEN_RECORDS)
def test_version_1_is_read(name: str) -> None:
    expected = GOLDEN_RECORDS[name]

    assert from_json(golden(name), type(expected)) == expected


@pytest.mark.parametrize("name", GOLDEN_RECORDS)
def test_version_1_is_written(name: str) -> None:
    """Add to a record, never rename or retype: processes of the previous release read what this one writes."""
    written = json.loads(to_json(GOLDEN_RECORDS[name]))
    first = json.loads(golden(name))
    for member in ADDED_TO_EVENT & set(written.get("event", {})):
        del written["event"][member]

    assert {member: written[member] for member in first} == first
    assert set(written) - set(first) == ADDED.get(name, set())


def test_version_1_of_an_event_is_read_and_its_body_has_the_same_bytes() -> None:
    decoded = decode_event(golden("event"), max_bytes=10_000)

    assert webhook_body(decoded) == golden("webhook_body")
    assert decoded.meta == EventMeta(
        id="7f0c1b9e-2f43-4c7e-9d0e-0d4f5f1c2a11",
        event_name="shipment_shipped",
        created_at=datetime(2026, 3, 3, 6, 12, 45, 250_000, tzinfo=UTC),
        order_number="R204816339",
        shipment_numbers=("H10000000801",),
        subscription_id="S-77",
        skus=("KETTLE-1L",),
    )


@pytest.mark.parametrize("name", GOLDEN_RECORDS)
def test_the_fast_writer_writes_what_the_model_would(name: str) -> None:
    record = GOLDEN_RECORDS[name]
    members = members_of(record)
    if isinstance(record, OperationalEvent):
        members["data"] = json.loads(bytes(record.data))

    assert to_json(record) == TypeAdapter(dict[str, Any]).dump_json(members)


def test_an_id_beyond_64_bits_is_written_too() -> None:
    meta = replace(META, stock_item_id=10**30)

    assert from_json(to_json(meta), EventMeta) == meta


# --- limits ---


def test_a_record_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(InvalidRecordError, match="no record of the pipeline has more than 2,097,152") as caught:
        from_json(b"[" * (MAX_METADATA_BYTES + 1), DeliveryRecord)
    assert caught.value.reason is DeadLetterReason.TOO_LARGE


@pytest.mark.parametrize("duration", ["1e999", '"NaN"', '"inf"'])
def test_a_duration_is_a_number_that_json_can_represent(duration: str) -> None:
    value = golden("attempt").replace(b"12.345", duration.encode())

    with pytest.raises(InvalidRecordError, match="duration_ms: "):
        from_json(value, Attempt)


def test_a_refusal_is_short() -> None:
    value = golden("attempt").replace(b'"webhook-id":', b'"' + b"x" * 100_000 + b'":7,"webhook-id":')

    with pytest.raises(InvalidRecordError) as caught:
        from_json(value, Attempt)
    assert len(str(caught.value)) < 500
