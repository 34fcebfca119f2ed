"""Each form of a record becomes the same event; a form that is not supported is named."""

from __future__ import annotations

import gzip
import json
from typing import Any

import msgspec
import pytest

from schemas.codec import InvalidRecordError
from schemas.event_codec import webhook_body
from schemas.event_reader import EventReader
from schemas.event_types import EventTypes, known_name
from schemas.producer_forms import ProducerForm
from schemas.topics import Topics
from tests.unit.sample_events import event
from tests.unit.schemas.producer_records import (
    AS_PUBLISHED,
    AT,
    ENVELOPE,
    OF_THE_PACKAGE,
    PAYLOAD,
    Published,
    framed,
    outbox,
)

TOPICS = Topics([])
NAMES = EventTypes().by_name.keys()
ORDERS = "oms.orders"


def reader(**forms: str) -> EventReader:
    return EventReader(
        EventTypes(), TOPICS, max_bytes=100_000, forms={f"oms.{topic}": ProducerForm(form) for topic, form in forms.items()}
    )


def refused(record: Published, topic: str = ORDERS, **forms: str) -> tuple[str, str]:
    with pytest.raises(InvalidRecordError) as caught:
        reader(**forms).read(record, topic)
    assert str(caught.value).endswith((".", ")")), str(caught.value)
    return caught.value.reason.value, str(caught.value)


def plain(value: bytes | None, headers: list[tuple[str, bytes]] | None = None, key: bytes | None = b"R1") -> Published:
    return Published(key, value, headers or [])


@pytest.mark.parametrize("form", AS_PUBLISHED)
def test_every_form_is_the_same_event_with_the_bytes_of_its_payload(form: str) -> None:
    read = reader().read(AS_PUBLISHED[form], ORDERS, AT)

    assert read == reader().read(plain(ENVELOPE.encode()), ORDERS, AT)
    assert read.data == PAYLOAD.encode()
    assert (
        webhook_body(read)
        == (
            '{"id":"evt-1","event_name":"order_completed","created_at":"2026-03-02T15:04:00.512Z","data":' + PAYLOAD + "}"
        ).encode()
    )


@pytest.mark.parametrize("form", OF_THE_PACKAGE)
def test_records_of_the_public_cloudevents_package_are_delivered(form: str) -> None:
    read = reader().read(OF_THE_PACKAGE[form], ORDERS)

    assert (read.meta.id, read.meta.event_name, read.meta.created_at, read.meta.order_number) == (
        "evt-1",
        "order_completed",
        AT,
        "R1",
    )
    assert json.loads(read.data) == json.loads(PAYLOAD)


@pytest.mark.parametrize(("form", "records"), [("outbox", AS_PUBLISHED), ("cloudevents", AS_PUBLISHED | OF_THE_PACKAGE)])
def test_a_configured_form_reads_its_own_records(form: str, records: dict[str, Published]) -> None:
    for name, record in records.items():
        if name.lower().startswith(form) or name in OF_THE_PACKAGE:
            assert reader(orders=form).read(record, ORDERS).meta.id == "evt-1", name


@pytest.mark.parametrize("form", ["auto", "plain", "cloudevents", "outbox"])
def test_our_envelope_is_read_whatever_is_configured(form: str) -> None:
    odd = ENVELOPE.replace("T15", " 15")  # not for the fast path
    for value in (ENVELOPE, odd):
        assert reader(orders=form).read(plain(value.encode()), ORDERS).data == PAYLOAD.encode()


@pytest.mark.parametrize(
    "headers",
    [
        [("ce_specversion", b"1.0")],
        [("ce_id", b"1"), ("ce_type", b"x"), ("content-type", b"application/octet-stream")],
        [("content-type", b"application/cloudevents-batch+json")],
    ],
)
def test_our_envelope_is_read_whatever_its_headers_say(headers: list[tuple[str, bytes]]) -> None:
    odd = ENVELOPE.replace("T15", " 15").encode()  # not for the fast path
    assert reader().read(plain(odd, headers), ORDERS).data == PAYLOAD.encode()


def test_the_configured_form_decides_what_is_missing() -> None:
    bare = plain(PAYLOAD.encode())
    assert refused(bare) == ("invalid_envelope", "event_name: Field required.")
    assert refused(AS_PUBLISHED["outbox, StringConverter"], orders="plain") == ("invalid_envelope", "event_name: Field required.")
    assert refused(bare, orders="outbox")[1].startswith(
        "Read as a record of Debezium's outbox event router: header id is missing"
    )
    assert refused(bare, orders="cloudevents")[1].startswith("It is not a CloudEvent: ")


def without(record: Published, *names: str) -> Published:
    return record._replace(headers=[header for header in record.headers if header[0] not in names])


def test_missing_parts_of_a_form_are_named_with_their_place() -> None:
    string, binary = AS_PUBLISHED["outbox, StringConverter"], AS_PUBLISHED["CloudEvents, binary"]
    assert (
        "header eventType is missing. transforms.outbox.table.fields.additional.placement"
        in refused(without(string, "eventType"))[1]
    )
    assert "header id is missing" in refused(without(string, "id"))[1]
    assert refused(without(binary, "ce_id"))[1] == "Read as a CloudEvent: header ce_id is missing; put the event's id there."
    assert refused(without(binary, "ce_type"))[1] == "Read as a CloudEvent: header ce_type is missing; put the event type there."
    assert refused(binary._replace(value=b"")) == (
        "invalid_payload",
        "Read as a CloudEvent: it has no data; put the payload there.",
    )
    assert refused(plain(b'{"specversion":"1.0","id":"a","type":"order_completed"}'))[1].startswith(
        "Read as a CloudEvent: it has no data"
    )
    assert refused(binary._replace(value=b"{}")) == ("invalid_payload", "Read as a CloudEvent: data.number: Field required.")
    assert refused(string._replace(value=b"{oops"))[0] == "not_json"
    strange = [("eventType", b"order_lost"), *without(string, "eventType").headers]
    assert refused(string._replace(headers=strange)) == (
        "unknown_event",
        "Read as a record of Debezium's outbox event router: event_name is not one of the built-in event types.",
    )


def test_an_event_without_a_time_has_the_time_of_its_record() -> None:
    for record in (
        without(AS_PUBLISHED["outbox, StringConverter"], "occurredAt"),
        without(AS_PUBLISHED["CloudEvents, binary"], "ce_time"),
    ):
        assert reader().read(record, ORDERS).meta.created_at.isoformat() == "2026-03-02T15:04:00.600000+00:00"
        for unknown in (-1, 0, 10**18):
            assert "occurred_at: Field required" in refused(record._replace(timestamp_ms=unknown))[1]


@pytest.mark.parametrize("number", ["1772463840512", "1772463840512000", "1772463840512000000"])
def test_the_unit_of_a_numeric_time_depends_on_its_size(number: str) -> None:
    record = AS_PUBLISHED["outbox, StringConverter"]
    headers = [*without(record, "occurredAt").headers, ("occurred_at", number.encode())]
    assert reader().read(record._replace(headers=headers), ORDERS).meta.created_at == AT


def test_an_id_that_fits_no_header_becomes_one_that_is_the_same_each_time() -> None:
    record = AS_PUBLISHED["CloudEvents, binary"]

    def read(event_id: str, source: bytes = b"/shop") -> str:
        headers = [("ce_id", event_id.encode()), ("ce_source", source), *without(record, "ce_id", "ce_source").headers]
        return reader().read(record._replace(headers=headers), ORDERS).meta.id

    assert read("A234-1234-1234") == "A234-1234-1234"
    assert read("1.2 é").startswith("sha256:")
    assert read("1.2 é") == read("1.2 é")
    assert len({read("1.2"), read("1.3"), read("1.2", b"/other")}) == 3


def test_references_are_taken_from_headers_and_extensions() -> None:
    cloud, string = AS_PUBLISHED["CloudEvents, binary"], AS_PUBLISHED["outbox, StringConverter"]
    for record, header in ((cloud, "ce_subscriptionid"), (string, "subscription_id"), (string, "subscriptionId")):
        assert reader().read(record._replace(headers=[*record.headers, (header, b"S1")]), ORDERS).meta.subscription_id == "S1"


def test_a_payload_cannot_add_members_to_the_envelope() -> None:
    record = AS_PUBLISHED["outbox, StringConverter"]
    for tail in (b',"id":"other"', b"}", b',"data":{"number":"R2"}', b" {}"):
        assert refused(record._replace(value=PAYLOAD.encode() + tail))[0] == "not_json"


def test_a_guest_token_is_removed_from_every_form() -> None:
    for name in ("outbox, StringConverter", "CloudEvents, binary"):
        record = AS_PUBLISHED[name]._replace(value=b'{"number":"R1","token":"secret"}')
        assert reader().read(record, ORDERS).data == b'{"number":"R1"}'


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b'""',
        b'{"schema":{"type":"string","optional":true},"payload":null}',
        b'{"schema":null,"payload":""}',
        framed('""'),
    ],
)
def test_an_empty_key_is_a_missing_key(key: bytes | None) -> None:
    assert refused(plain(event(), key=key))[0] == "missing_key"


@pytest.mark.parametrize(
    "key", [b"R1", b'"R1"', b"{}", b"\x00\x00\x00\x07", b"\x00\x00\x00\x00\x00\x00\x00\x07", b'{"payload":null}', b" "]
)
def test_any_other_key_is_a_key(key: bytes) -> None:
    assert reader().read(plain(event(), key=key), ORDERS).meta.id == "evt_1"


def test_an_event_in_the_wrong_topic_is_refused_with_both_names() -> None:
    for record in (plain(event()), AS_PUBLISHED["CloudEvents, binary"]):
        assert refused(record, "oms.shipments") == (
            "unknown_event",
            "order_completed belongs in oms.orders; this is oms.shipments. Publish it there.",
        )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("order_completed", "order_completed"),
        ("com.example.order_completed", "order_completed"),
        ("com.example.oms.order.completed.v2", "order_completed"),
        ("OrderCompleted", "order_completed"),
        ("https://example.com/events/order-completed", "order_completed"),
        ("Shipment.DeliveryStatusUpdated", "shipment_delivery_status_updated"),
        ("urn:stock_item:back_in_stock:1", "stock_item_back_in_stock"),
        ("pre_order_completed", "pre_order_completed"),
        ("order_completed.failed", "order_completed.failed"),
        ("", ""),
        ("x." * 2000 + "order_completed", "x." * 2000 + "order_completed"),
    ],
)
def test_a_type_of_another_convention_is_the_event_type_that_it_ends_with(text: str, name: str) -> None:
    assert known_name(text, NAMES) == name


@pytest.mark.parametrize(
    ("value", "looks"),
    [
        (b"\x00\x00\x00\x00\x2a\x0aevt-1\x1eorder_completed\x02\x04", "Avro in Confluent framing (magic byte 0, schema id 42)"),
        (b"\x00\x00\x00\x00\x2a\x00\x0a\x05evt-1\x12\x0forder_completed", "Protobuf in Confluent framing"),
        (b"\x0a\x05evt-1\x12\x0forder_completed\x18\x80\x01\xfa\x01\x02\xc3\xa9", "Protobuf"),
        (b"Obj\x01\x04\x14avro.codec", "an Avro file"),
        (gzip.compress(ENVELOPE.encode()), "gzip. Publish the event as it is, and let the Kafka client compress"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "zstd"),
        (b"\xef\xbb\xbf" + ENVELOPE.encode(), "text that begins with a byte order mark"),
        (ENVELOPE.encode("utf-16"), "UTF-16"),
        (ENVELOPE.encode("utf-16-le"), "UTF-16"),
        (ENVELOPE.encode("utf-16-be"), "UTF-16"),
        (ENVELOPE.encode("utf-32"), "UTF-32"),
        (f"{ENVELOPE}\n{ENVELOPE}\n".encode(), "2 JSON objects, one per line (NDJSON)"),
        ((ENVELOPE + ENVELOPE).encode(), "several JSON objects"),
        (f"[{ENVELOPE},{ENVELOPE}]".encode(), "a list of 2"),
        (json.dumps(ENVELOPE).encode(), "a JSON string that contains JSON: it was encoded twice"),
        (b"<order/>", "XML or HTML"),
        (b"", "an empty value"),
        (b"  \n", "nothing but white space"),
        (b"eyJpZCI6ImV2dC0xIn0=", "JSON in Base64"),
        (str(json.loads(ENVELOPE)).encode(), "the text of a Python or Ruby object"),
        (b'{"id" => "evt-1"}', "the text of a Python or Ruby object"),
        (msgspec.msgpack.encode(json.loads(ENVELOPE)), "MessagePack"),
        (b"\xa2\x62id\x65evt-1\x64data\xa0", "CBOR"),
        (b"\x16\x00\x00\x00\x02id\x00\x06\x00\x00\x00evt-1\x00\xff\x00\x00\x00", "BSON"),
        (b"\xac\xed\x00\x05sr", "a serialized Java object"),
        (b'{"before":null,"after":{"id":1},"op":"c","source":{}}', "a Debezium change event of a table"),
        (b'{"schema":{},"payload":{"before":null,"after":{"id":1},"op":"c"}}', "a Debezium change event of a table"),
    ],
)
def test_an_unsupported_form_is_named(value: bytes, looks: str) -> None:
    if looks == "BSON":
        value = len(value).to_bytes(4, "little") + value[4:]
    reason, message = refused(plain(value))
    assert reason in {"not_json", "invalid_envelope"}
    assert f"it looks like {looks}" in message


@pytest.mark.parametrize(
    ("record", "named"),
    [
        (plain(b"[{}]", [("content-type", b"application/cloudevents-batch+json")]), "application/cloudevents-batch+json"),
        (plain(b"\x0a", [("content-type", b"application/cloudevents+protobuf")]), "application/cloudevents+protobuf"),
        (
            plain(b"<a/>", [("ce_id", b"1"), ("ce_type", b"order_completed"), ("content-type", b"text/xml")]),
            "its data is 'text/xml'",
        ),
        (plain(b"{}", [("ce_id", b"1"), ("ce_type", b"order_completed"), ("ce_specversion", b"2.0")]), "specversion '2.0'"),
        (plain(b'{"specversion":"1.0","id":"1","type":"order_completed","data":"{}"}'), "its payload is a JSON string"),
        (plain(b'{"specversion":"1.0","id":"1","type":"order_completed","data_base64":"%"}'), "data_base64 is not Base64"),
    ],
)
def test_an_unreadable_cloudevent_is_refused_with_the_reason(record: Published, named: str) -> None:
    assert named in refused(record)[1]


def test_hostile_headers_are_no_form_of_ours() -> None:
    strange: list[Any] = [("ce_id", b"\xff"), ("", b""), ("id", None), ("traceparent", b"\x00"), ("eventType", b"\xfe")]
    assert reader().read(plain(event(), strange), ORDERS).meta.id == "evt_1"
    assert refused(plain(b"{}", strange))[0] == "invalid_envelope"


def test_a_null_payload_and_a_tombstone_are_named() -> None:
    assert refused(plain(None, [("id", b"evt-1"), ("eventType", b"order_completed")]))[0] == "null_value"
    assert refused(outbox("null"))[0] == "invalid_payload"
    assert refused(outbox('{"schema":null,"payload":null}'))[0] == "invalid_payload"


def test_white_space_around_our_envelope_is_not_another_form() -> None:
    value = b"\n " + event().replace(b"2026-03-02T", b"yesterday") + b"\n"
    reason, detail = refused(plain(value))
    assert (reason, detail.partition(":")[0]) == ("invalid_envelope", "occurred_at")


@pytest.mark.parametrize(
    ("text", "half"),
    [
        (rb"\ud83d", r"\ud83d"),
        (rb"\ud83d\ude00\uDE00", r"\uDE00"),
        (rb"\\\ud83d\u0041", r"\ud83d"),
    ],
)
def test_a_lone_surrogate_is_named(text: bytes, half: str) -> None:
    value = event('{"number": "R1", "note": "PLACE"}').replace(b"PLACE", text)
    reason, detail = refused(plain(value))
    assert reason == "not_json"
    assert detail.startswith(f"The value is not JSON: it looks like JSON with half of a character ({half})")


@pytest.mark.parametrize("text", [rb"\ud83d\ude00", rb"\\ud83d", rb"\ud7ff"])
def test_a_surrogate_pair_is_accepted(text: bytes) -> None:
    value = event('{"number": "R1", "note": "PLACE"}').replace(b"PLACE", text)
    assert "half" not in refused(plain(value + b"}"))[1]
