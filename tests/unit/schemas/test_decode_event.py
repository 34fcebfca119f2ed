"""What is read from usable events; any other bytes are refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.codec import InvalidRecordError, format_time
from schemas.delivery import DeadLetterReason
from schemas.event import EVENT_DESCRIPTIONS, EventMeta, EventType
from schemas.event_codec import DecodedEvent, decode_event, webhook_body
from tests.unit.sample_events import HEAD, NOW, event, event_of, payload_of

BIG = 1 << 20
ORDER: dict[str, object] = {
    "order_number": "R204816339",
    "shipment_numbers": ("H10000000801", "H10000000802"),
    "skus": ("KETTLE-1L", "CUPS-4"),
}
SHIPPED: dict[str, object] = {
    "order_number": "R204816339",
    "shipment_numbers": ("H10000000801",),
    "skus": ("KETTLE-1L", "CUPS-4"),
}
EXPECTED: dict[EventType, dict[str, object]] = {
    EventType.ORDER_COMPLETED: ORDER,
    EventType.ORDER_CANCELLED: {"order_number": "CHORD-000111222", "skus": ("TEA-100G",)},
    EventType.SHIPMENT_SHIPPED: SHIPPED,
    EventType.SHIPMENT_UPDATED: {"order_number": "R204816339", "shipment_numbers": ("H10000000802",), "skus": ("LID-W",)},
    EventType.SHIPMENT_DELIVERY_STATUS_UPDATED: SHIPPED | {"skus": ("KETTLE-1L",)},
    EventType.STOCK_ITEM_BACK_IN_STOCK: {"stock_item_id": 9001, "skus": ("KETTLE-1L",)},
    EventType.STOCK_ITEM_OUT_OF_STOCK: {"stock_item_id": 9002, "skus": ("CUPS-4",)},
}


def decode(value: bytes | str | None) -> DecodedEvent:
    return decode_event(value.encode() if isinstance(value, str) else value, max_bytes=BIG)


def refused(value: bytes | str | None) -> InvalidRecordError:
    with pytest.raises(InvalidRecordError) as caught:
        decode(value)
    return caught.value


@pytest.mark.parametrize("event_type", EventType)
def test_every_event_type_is_decoded_and_passed_on(event_type: EventType) -> None:
    decoded = decode(event_of(event_type, more=',"references":{"subscription_id":"S-77"}'))

    found: Any = EXPECTED[event_type]
    assert decoded.meta == EventMeta(id="evt_1", event_name=event_type.value, created_at=NOW, subscription_id="S-77", **found)
    sent = json.loads(webhook_body(decoded))
    assert list(sent) == ["id", "event_name", "created_at", "data"]
    assert sent["id"] == "evt_1"
    assert sent["event_name"] == event_type.value
    assert sent["created_at"] == "2026-03-02T15:04:00.512Z"
    assert sent["data"] == {name: value for name, value in json.loads(payload_of(event_type)).items() if name != "token"}
    assert decoded.payload() == sent["data"]


def test_every_event_type_is_described() -> None:
    assert set(EVENT_DESCRIPTIONS) == set(EventType)


@pytest.mark.parametrize("event_type", [event for event in EventType if not event.value.startswith("order")])
def test_payloads_of_shipments_and_stock_items_keep_every_byte(event_type: EventType) -> None:
    assert decode(event_of(event_type)).data == payload_of(event_type)


# --- created_at ---


@pytest.mark.parametrize(
    ("occurred_at", "created_at"),
    [
        ("2026-03-02T15:04:00.512Z", "2026-03-02T15:04:00.512Z"),
        ("2026-03-02T15:04:00Z", "2026-03-02T15:04:00.000Z"),
        ("2026-03-02T15:04:00.512999Z", "2026-03-02T15:04:00.512Z"),
        ("2026-03-02T16:04:00.512+01:00", "2026-03-02T15:04:00.512Z"),
        ("2026-03-01T20:34:00-18:30", "2026-03-02T15:04:00.000Z"),
        ("0900-01-01T00:00:00Z", "0900-01-01T00:00:00.000Z"),
    ],
)
def test_created_at_is_the_time_of_the_event_in_utc_with_milliseconds(occurred_at: str, created_at: str) -> None:
    decoded = decode(event(head=HEAD.replace("2026-03-02T15:04:00.512Z", occurred_at)))

    assert decoded.meta.created_at.tzinfo is UTC
    assert json.loads(webhook_body(decoded))["created_at"] == created_at


@given(st.datetimes(timezones=st.timezones(), min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001
def test_format_time_is_always_utc_with_milliseconds(time: datetime) -> None:
    text = format_time(time)

    assert len(text) == 24
    assert text.endswith("Z")
    assert abs((datetime.fromisoformat(text) - time).total_seconds()) < 0.001


@pytest.mark.parametrize(
    "occurred_at",
    [
        '"2026-03-02"',
        '"2026-03-02T15:04:00"',
        '"2026-13-02T15:04:00Z"',
        '"2026-03-02T15:04:60Z"',
        '"yesterday"',
        "1772463840",
        "null",
    ],
)
def test_a_time_without_an_offset_or_an_invalid_one_is_refused(occurred_at: str) -> None:
    error = refused(event(head=HEAD.replace('"2026-03-02T15:04:00.512Z"', occurred_at)))

    assert error.reason is DeadLetterReason.INVALID_ENVELOPE
    assert str(error).startswith("occurred_at: ")


@pytest.mark.parametrize("occurred_at", ["1772463840", "-1", "1772463840.5"])
def test_a_unix_time_in_a_string_is_refused(occurred_at: str) -> None:
    refused(event(head=HEAD.replace("2026-03-02T15:04:00.512Z", occurred_at)))


@pytest.mark.parametrize("occurred_at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_at_the_end_of_the_calendar_is_refused_as_a_bad_envelope(occurred_at: str) -> None:
    assert refused(event(head=HEAD.replace("2026-03-02T15:04:00.512Z", occurred_at))).reason is DeadLetterReason.INVALID_ENVELOPE


# --- references ---


@pytest.mark.parametrize(
    ("data", "skus", "shipment_numbers"),
    [
        ('{"number":"R1"}', (), ()),
        ('{"number":"R1","line_items":null,"shipments":null}', (), ()),
        ('{"number":"R1","line_items":"many","shipments":{}}', (), ()),
        (
            '{"number":"R1","line_items":[{"variant":null},{"variant":{}},{"variant":{"sku":null}},{"variant":{"sku":5}},{}]}',
            (),
            (),
        ),
        (
            '{"number":"R1","line_items":[{"variant":{"sku":"B"}},{"variant":{"sku":"A"}},{"variant":{"sku":"B"}},{"variant":{"sku":""}}],'
            '"shipments":[{"number":"H2"},{"number":7},{"number":"H1"},{"number":"H2"}]}',
            ("B", "A"),
            ("H2", "H1"),
        ),
    ],
)
def test_an_unusual_payload_loses_references_but_is_delivered(
    data: str, skus: tuple[str, ...], shipment_numbers: tuple[str, ...]
) -> None:
    decoded = decode(event(data))

    assert decoded.meta.skus == skus
    assert decoded.meta.shipment_numbers == shipment_numbers
    assert decoded.data == data.encode()


def test_the_number_of_references_is_limited() -> None:
    skus = [{"variant": {"sku": sku}} for sku in ("x" * 256, "x" * 255, *map(str, range(150)))]
    shipments = [{"number": "H" * 256}, *({"number": f"H{number}"} for number in range(150))]
    order = decode(event(json.dumps({"number": "R1", "line_items": skus, "shipments": shipments}))).meta

    assert order.skus == ("x" * 255, *map(str, range(99)))
    assert order.shipment_numbers == tuple(f"H{number}" for number in range(100))

    head = HEAD.replace("order_completed", "shipment_updated")
    shipment = decode(event(json.dumps({"number": "H1", "order_id": "R" * 256}), head=head)).meta
    assert shipment.order_number is None


def test_one_odd_element_hides_no_other_reference() -> None:
    decoded = decode(event('{"number":"R1","shipments":[{"number":"H1"},null],"line_items":[{"variant":{"sku":"A"}},7]}'))

    assert decoded.meta.shipment_numbers == ("H1",)
    assert decoded.meta.skus == ("A",)


def test_a_shipment_without_an_order_takes_the_order_of_the_references() -> None:
    head = HEAD.replace("order_completed", "shipment_updated")
    references = ',"references":{"order_number":"R9","subscription_id":null}'

    assert decode(event('{"number":"H1"}', head=head, more=references)).meta.order_number == "R9"
    assert decode(event('{"number":"H1","order_id":12}', head=head, more=references)).meta.order_number == "R9"
    assert decode(event('{"number":"H1","order_id":"R8"}', head=head, more=references)).meta.order_number == "R8"
    assert decode(event('{"number":"H1"}', head=head)).meta.order_number is None


def test_a_stock_event_finds_its_order_in_the_references() -> None:
    head = HEAD.replace("order_completed", "stock_item_out_of_stock")
    meta = decode(event('{"id":"5"}', head=head, more=',"references":{"order_number":"R9","new":[1]}')).meta

    assert (meta.order_number, meta.stock_item_id, meta.skus) == ("R9", 5, ())


def test_unknown_members_of_the_envelope_are_ignored() -> None:
    assert decode(event(more=',"trace":{"id":"x"},"schema_version":1')).meta == decode(event()).meta


@pytest.mark.parametrize("twice", ["data", "event_name", "id"])
def test_the_same_one_of_duplicate_members_counts_everywhere(twice: str) -> None:
    """What is validated and matched must be what is sent."""
    second = {"data": '{"number":"R2","token":"g"}', "event_name": '"order_cancelled"', "id": '"evt_2"'}[twice]
    decoded = decode(event(more=f',"{twice}":{second}'))
    sent = json.loads(webhook_body(decoded))

    assert sent["data"] == {"number": decoded.meta.order_number}
    assert sent["event_name"] == decoded.meta.event_name
    assert sent["id"] == decoded.meta.id


# --- totality ---


def _decodes_or_refuses(value: bytes) -> None:
    try:
        decoded = decode_event(value, max_bytes=BIG)
    except InvalidRecordError:
        return
    assert json.loads(webhook_body(decoded))["id"] == decoded.meta.id


@given(st.binary())
@example(b"\x00")
@example(b"{}")
def test_any_bytes_decode_or_are_refused(value: bytes) -> None:
    _decodes_or_refuses(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=15,
)


@given(
    st.sampled_from(EventType),
    st.dictionaries(
        st.sampled_from(["id", "event_name", "occurred_at", "schema_version", "references", "data", "x"]), json_values, max_size=3
    ),
    st.dictionaries(
        st.sampled_from(["number", "id", "order_id", "shipments", "line_items", "manifest", "variant", "token"]),
        json_values,
        max_size=4,
    ),
)
def test_events_with_any_value_in_any_place_decode_or_are_refused(
    event_type: EventType, envelope: dict[str, object], data: dict[str, object]
) -> None:
    valid = json.loads(event_of(event_type))
    _decodes_or_refuses(json.dumps(valid | {"data": valid["data"] | data} | envelope).encode())


@given(st.sampled_from(EventType), st.data())
def test_damaged_events_decode_or_are_refused(event_type: EventType, data: st.DataObject) -> None:
    value = bytearray(event_of(event_type))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(value)))
        value[at : at + data.draw(st.integers(0, 5))] = data.draw(
            st.binary(max_size=4)
            | st.sampled_from([b'"', b"{", b"}", b"[", b"\\", b"\\u00", b"1e999", b"NaN", b",", b":", b"\xff", b"0"])
        )
    _decodes_or_refuses(bytes(value))
