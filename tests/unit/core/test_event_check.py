from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.event_check import MAX_FINDINGS, CheckedEvent, check_events
from pipeline.core.event_file import EventInFile
from schemas.codec import InvalidRecordError
from schemas.event import EventMeta, EventType
from schemas.event_codec import decode_event
from schemas.event_reader import EventReader
from schemas.event_types import BUILT_IN
from schemas.producer_forms import ProducerForm
from schemas.topics import Topics
from tests.unit.sample_events import event, event_of

TOKEN = ("data.token", "It gives access to the order, and is removed before delivery. Do not publish it.")


def check(*values: bytes) -> list[CheckedEvent]:
    return list(check_events([EventInFile(f"line {number}", value) for number, value in enumerate(values, 1)], max_bytes=100_000))


def found(value: bytes) -> list[tuple[str, str]]:
    (one,) = check(value)
    return [(problem.path, problem.message) for problem in one.problems]


def with_data(**data: Any) -> bytes:
    return event(json.dumps({"number": "R1"} | data))


@pytest.mark.parametrize("event_type", EventType)
def test_the_samples_are_valid(event_type: EventType) -> None:
    (one,) = check(event_of(event_type))
    assert one.event is not None
    assert one.event.event_name == event_type
    # Samples of orders contain a guest token, as orders of the OMS do.
    assert found(event_of(event_type)) == ([TOKEN] if event_type.value.startswith("order") else [])


@pytest.mark.parametrize(
    ("value", "reason", "path", "word"),
    [
        (b"\xff", "not_json", "", "not JSON"),
        (b"[]", "invalid_envelope", "", "not a JSON object"),
        (event('{"number":""}'), "invalid_payload", "data.number", "text of 1 to 255 characters"),
        (event("{}"), "invalid_payload", "data.number", "Field required"),
        (event("7"), "invalid_envelope", "data", "as an object"),
        (event().replace(b"evt_1", b"a.b"), "invalid_envelope", "id", "no dots"),
        (event().replace(b"order_completed", b"order_lost"), "unknown_event", "event_name", "order_completed, order_cancelled"),
        (event().replace(b'"event_name"', b'"name"'), "invalid_envelope", "event_name", "Field required"),
        (event().replace(b"2026-03-02T", b"yesterday"), "invalid_envelope", "occurred_at", "ISO 8601"),
        (event(more=',"schema_version":2'), "unsupported_version", "", "Upgrade"),
        (event(more=',"references":[]'), "invalid_envelope", "references", "subscription_id"),
        (b" " * 100_001, "too_large", "", "MAX_EVENT_BYTES"),
    ],
)
def test_records_that_the_fan_out_refuses(value: bytes, reason: str, path: str, word: str) -> None:
    (one,) = check(value)
    assert (one.event, one.reason) == (None, reason)
    (problem,) = one.problems
    assert (problem.path, problem.is_fatal) == (path, True)
    assert word in problem.message


def test_every_problem_is_reported() -> None:
    (one,) = check(b'{"event_name":"stock_item_out_of_stock","occurred_at":5,"data":{"id":"x"}}')
    assert [problem.path for problem in one.problems] == ["id", "occurred_at", "data.id"]


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        ({"total": 60.25}, "data.total", "It is a number, but documented as text or null (Decimal amount as a string)."),
        ({"total": "60,25"}, "data.total", "It is not as documented: Decimal amount as a string."),
        (
            {"covered_by_store_credit": 1},
            "data.covered_by_store_credit",
            "It is a whole number, but documented as true or false or null.",
        ),
        ({"bill_address": "Berlin"}, "data.bill_address", "It is text, but documented as an object or null."),
        ({"line_items": [{}, {"price": 5}]}, "data.line_items.1.price", "It is a whole number, but documented as text or null"),
        ({"line_items": {"a": 1}}, "data.line_items", "It is an object, but documented as a list or null."),
        (
            {"line_items": [{"variant": {"sku": 7}}]},
            "data.line_items.0.variant.sku",
            "It is a whole number, but documented as text or null.",
        ),
        ({"completed_at": "yesterday"}, "data.completed_at", "It is not a time. Write ISO 8601"),
        ({"completed_at": "2026-03-02T15:04:00"}, "data.completed_at", "It is not a time. Write ISO 8601"),
        ({"shipments": [{"state": "ready"}]}, "data.shipments.0", "Required, but missing: number."),
        ({"token": "guest"}, *TOKEN),
    ],
)
def test_records_that_are_delivered_but_not_as_documented(data: dict[str, Any], path: str, message: str) -> None:
    (one,) = check(with_data(**data))
    assert one.event is not None
    (problem,) = one.problems
    assert (problem.path, problem.is_fatal) == (path, False)
    assert problem.message.startswith(message)


def test_unknown_members_are_allowed_in_the_payload_and_reported_in_the_envelope() -> None:
    assert found(with_data(new="x")) == []
    assert [path for path, _ in found(event(more=',"reference":{},"\\u001b[31m":1'))] == ["\\x1b[31m", "reference"]


def test_a_duplicate_id() -> None:
    first, second, other = check(event(), event_of(EventType.SHIPMENT_SHIPPED), event().replace(b"evt_1", b"evt_2"))
    assert [list(one.problems) for one in (first, other)] == [[], []]
    (problem,) = second.problems
    assert (problem.path, problem.is_fatal) == ("id", False)
    assert problem.message.startswith("line 1 has it too.")


def test_the_number_of_findings_is_limited() -> None:
    paths = [path for path, _ in found(with_data(tag_list=list(range(1000))))]
    assert len(paths) == MAX_FINDINGS + 1
    assert paths[-1] == "data"


def test_numbers_that_few_languages_can_represent_get_a_warning() -> None:
    ((path, message),) = found(event('{"number":"R1","x":1' + "0" * 5000 + "}"))
    assert (path, message) == ("", "Few receivers can read its numbers or its nesting.")


def test_findings_contain_no_values() -> None:
    secret = "needle-in-a-haystack"
    data = {
        name: [secret] for name in ("total", "email", "completed_at", "line_items", "metadata", "tag_list", "shipments", "id")
    }
    messages = found(with_data(**data)) + found(event(json.dumps({"number": [secret]}))) + found(with_data(total=secret))
    assert len(messages) >= 8
    assert not [message for message in messages if secret in str(message)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda one: st.lists(one) | st.dictionaries(st.sampled_from(["number", "sku", "price", "variant"]), one),
    max_leaves=5,
)
MEMBERS = ["number", "total", "line_items", "shipments", "bill_address", "completed_at", "tag_list", "token", "x"]


@given(st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=4))
def test_it_agrees_with_the_fan_out_on_every_payload(data: dict[str, Any]) -> None:
    value = with_data(**data)
    (one,) = check(value)
    assert (one.event, one.reason) == _of_the_fan_out(value)
    assert any(problem.is_fatal for problem in one.problems) is (one.event is None)


def _of_the_fan_out(value: bytes) -> tuple[EventMeta | None, str]:
    try:
        return decode_event(value, max_bytes=100_000).meta, ""
    except InvalidRecordError as error:
        return None, error.reason


CLOUD_EVENT = b"""{"specversion": "1.0", "id": "e1", "source": "/shop", "type": "com.example.order_completed",
                   "data": {"number": "R1", "total": 7}}"""


def test_a_form_without_headers_is_judged_as_by_the_fan_out() -> None:
    (one,) = check(CLOUD_EVENT)
    assert one.event is not None
    assert (one.event.id, one.event.event_name) == ("e1", "order_completed")
    assert [problem.path for problem in one.problems] == ["data.total"]

    (broken,) = check(CLOUD_EVENT.replace(b'"type"', b'"kind"'))
    assert (broken.event, broken.reason) == (None, "invalid_envelope")
    assert "Read as a CloudEvent: type is missing" in broken.problems[0].message


def test_a_configured_topic_is_used() -> None:
    reader = EventReader(BUILT_IN, Topics([]), max_bytes=100_000, forms={"oms.orders": ProducerForm.PLAIN})
    (one,) = check_events([EventInFile("", CLOUD_EVENT)], max_bytes=100_000, reader=reader)
    assert (one.event, one.reason) == (None, "invalid_envelope")


def test_the_form_of_the_value_is_described() -> None:
    (one,) = check(b"\xef\xbb\xbf" + event())
    assert [problem.message for problem in one.problems] == [
        "The value is not JSON: it looks like text that begins with a byte order mark (BOM). Publish UTF-8 without it."
    ]
