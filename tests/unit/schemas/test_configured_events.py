"""Events of the types that a deployment adds: decoded, checked by their schema, found by their references."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.event_check import check_events
from pipeline.core.event_file import events_in
from pipeline.devtools.sample_records import sample_record
from pipeline.ops.event_types_file import read_event_types
from pipeline.web.api.event_types import event_types
from pipeline.web.guide import guide
from pipeline.web.openapi import openapi
from schemas.codec import InvalidRecordError
from schemas.configured_events import ConfiguredEventType, texts_at, validator_of
from schemas.event_codec import decode_event
from schemas.event_reader import EventReader
from schemas.event_types import EventTypes
from schemas.topics import Topics
from tests.unit.sample_events import NOW, event
from tests.unit.schemas.producer_records import Published

TYPES = EventTypes(read_event_types(Path(__file__).parents[3] / "deploy" / "event-types" / "event-types.yaml"))
READER = EventReader(TYPES, Topics([], more_sources=TYPES.more_topics), max_bytes=100_000)


def published(name: str, data: Any = None, **more: Any) -> Published:
    document = {"id": "e1", "event_name": name, "occurred_at": "2026-03-02T15:04:00.512Z"}
    value = document | {"data": TYPES.sample(name) if data is None else data} | more
    return Published(b"R1", json.dumps(value).encode(), [])


def refused(record: Published, topic: str) -> tuple[str, str]:
    with pytest.raises(InvalidRecordError) as caught:
        READER.read(record, topic)
    return caught.value.reason.value, str(caught.value)


def test_each_event_is_found_by_the_values_of_its_pointers() -> None:
    returned = READER.read(published("order_returned"), "oms.orders", NOW).meta
    assert (returned.order_number, returned.shipment_numbers, returned.skus) == ("R204816339", ("H10480123475",), ("KETTLE-1L",))
    assert (returned.created_at, returned.received_at) == (NOW, NOW)
    assert READER.read(published("refund_issued"), "oms.refunds").meta.order_number == "R204816339"
    paused = READER.read(published("subscription_paused", references={"order_number": "R9"}), "oms.subscriptions").meta
    assert (paused.subscription_id, paused.skus, paused.order_number) == ("S48213", ("KETTLE-1L",), "R9")


def test_the_payload_keeps_its_bytes() -> None:
    value = b'{"id":"e1","event_name":"subscription_paused","occurred_at":"2026-03-02T15:04:00Z","data":{"id": "S1",  "paused_until":null, "x":1.10}}'
    assert READER.read(Published(b"S1", value, []), "oms.subscriptions").data == b'{"id": "S1",  "paused_until":null, "x":1.10}'


def test_an_event_that_violates_its_schema_is_a_dead_letter_that_names_the_place() -> None:
    sample = TYPES.sample("order_returned")
    assert refused(published("order_returned", {**sample, "items": []}), "oms.orders") == (
        "invalid_payload",
        "data.items: It breaks the schema's minItems 1.",
    )
    lines = {**sample, "items": [{"sku": "A", "quantity": "2"}, {"quantity": 1}]}
    assert refused(published("order_returned", lines), "oms.orders")[1] == (
        "data.items.0.quantity: It should be integer; data.items.1: sku is required."
    )
    assert refused(published("order_returned", [1]), "oms.orders") == ("invalid_envelope", "data: Input should be an object.")
    assert refused(published("order_returned", occurred_at="soon"), "oms.orders")[0] == "invalid_envelope"
    assert (
        "reason: It is not one of the values"
        in refused(published("refund_issued", {**TYPES.sample("refund_issued"), "reason": "customer secret"}), "oms.refunds")[1]
    )


def test_deep_and_huge_payloads_are_handled() -> None:
    deep = json.loads("[" * 150 + "]" * 150)
    assert READER.read(published("order_returned", {**TYPES.sample("order_returned"), "x": deep}), "oms.orders").meta.id == "e1"
    giant = b'{"id":"e1","event_name":"refund_issued","occurred_at":"2026-03-02T15:04:00Z","data":{"id":' + b"9" * 5000 + b"}}"
    assert refused(Published(b"R1", giant, []), "oms.refunds")[0] in {"invalid_payload", "not_json"}


@pytest.mark.parametrize("amount", [b"1e400", b"9" * 400])
def test_a_number_that_multiple_of_cannot_divide_is_a_fault_of_the_payload(amount: bytes) -> None:
    schema = {"type": "object", "properties": {"amount": {"type": "number", "multipleOf": 0.01}}}
    kind = ConfiguredEventType("refund_issued", "oms.refunds", "Money is given back.", schema, {})
    value = b'{"id":"e1","event_name":"refund_issued","occurred_at":"2026-03-02T15:04:00Z","data":{"amount":' + amount + b"}}"
    with pytest.raises(InvalidRecordError) as caught:
        decode_event(value, max_bytes=10_000, configured={"refund_issued": kind})
    assert caught.value.reason == "invalid_payload"
    assert str(caught.value) == "data: It cannot be compared with the schema (OverflowError); a number may be too large."


def test_each_problem_is_named_once_and_without_advice_about_orders() -> None:
    value = published("refund_issued", {"number": 5, "id": "x"}).value
    assert value is not None
    (one,) = check_events(events_in(value), max_bytes=100_000, types=TYPES)
    assert [(problem.path, problem.message) for problem in one.problems] == [
        ("data", "amount, currency, order are required."),
        ("data.id", "It should be integer."),
    ]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 1, 1.0, 2, "1", "a", ""]),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from("ab"), part, max_size=2),
    max_leaves=5,
)


@given(st.lists(JSON_VALUES, max_size=6))
def test_unique_elements_are_those_of_json_schema(elements: list[Any]) -> None:
    schema = {"type": "array", "uniqueItems": True}
    assert validator_of(schema).is_valid(elements) == jsonschema.Draft202012Validator(schema).is_valid(elements)


def test_a_long_list_of_objects_is_compared_quickly() -> None:
    """The library compares each pair: with these, for many minutes."""
    validator = validator_of({"properties": {"items": {"uniqueItems": True}}})
    many = [{"sku": str(number)} for number in range(30_000)]
    assert validator.is_valid({"items": many})
    assert not validator.is_valid({"items": [*many, {"sku": "7"}]})


def test_topics_and_names_are_compared_as_for_built_in_types() -> None:
    assert refused(published("refund_issued"), "oms.orders") == (
        "unknown_event",
        "refund_issued belongs in oms.refunds; this is oms.orders. Publish it there.",
    )
    message = "event_name is not one of the built-in event types, nor order_returned, refund_issued, subscription_paused."
    assert refused(Published(b"R1", event().replace(b"order_completed", b"order_lost"), []), "oms.orders") == (
        "unknown_event",
        message,
    )
    assert READER.read(Published(b"R1", event(), []), "oms.orders").meta.event_name == "order_completed"


def test_other_forms_of_records_may_contain_them_too() -> None:
    headers = [("ce_id", b"e1"), ("ce_type", b"com.example.refund.issued"), ("ce_time", b"2026-03-02T15:04:00Z")]
    record = Published(b"R1", json.dumps(TYPES.sample("refund_issued")).encode(), headers)
    assert READER.read(record, "oms.refunds").meta.order_number == "R204816339"
    assert refused(record._replace(value=b"{}"), "oms.refunds")[1].startswith(
        "Read as a CloudEvent: data: id, amount, currency, order are required."
    )


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("/a", ["1"]),
        ("/b/*/c", ["x", "y"]),
        ("/b/1/c", ["y"]),
        ("/d", ["p", "q"]),
        ("/b/7/c", []),
        ("/b/x", []),
        ("/a/b", []),
        ("/e~1f/g~0h", ["z"]),
        ("/t", []),
        ("/n", []),
    ],
)
def test_pointers(pointer: str, found: list[str]) -> None:
    payload = {"a": 1, "b": [{"c": "x"}, {"c": "y"}], "d": ["p", "q", None], "e/f": {"g~h": "z"}, "t": True, "n": None}
    assert texts_at(payload, pointer) == found


def test_the_api_the_guide_and_the_schemas_contain_them() -> None:
    answered = event_types(TYPES).event_types
    assert [one.name for one in answered] == list(TYPES.names)
    for one in answered:
        jsonschema.Draft202012Validator(one.json_schema).validate(one.sample)
    assert "subscription_paused" in guide(TYPES).text
    assert openapi([], "0", TYPES.names)["components"]["schemas"]["ErrorAnswer"]
    schema = jsonschema.Draft202012Validator(TYPES.published_schema())
    for name in TYPES.names:
        record = published(name)
        assert record.value is not None
        schema.validate(json.loads(record.value))
        assert list(schema.iter_errors(json.loads(record.value) | {"data": {}})), name


def test_publish_check_and_the_simulated_shop_know_them() -> None:
    good, bad = published("refund_issued").value, published("refund_issued", {"id": 1}).value
    assert good is not None
    assert bad is not None
    checked = list(check_events(events_in(good + b"\n" + bad), max_bytes=100_000, types=TYPES))
    assert [one.reason for one in checked] == ["", "invalid_payload"]
    assert checked[0].problems == []
    for kind in TYPES.configured.values():
        made = sample_record(kind, "evt_9", "R7", NOW)
        meta = READER.read(Published(made.key.encode(), made.value, []), kind.topic).meta
        assert (meta.id, meta.order_number) == ("evt_9", "R7" if "order_number" in kind.references else None)
        assert made.key == ("R7" if meta.order_number else "evt_9")
