"""Event types in several versions, and which of them an endpoint may pin."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest

from pipeline.core.filters.stored import NO_FILTERS
from pipeline.endpoints.subscriptions import MatchInput, Subscriptions
from pipeline.web.api.event_types import event_types
from pipeline.web.filter_preview import _endpoint
from pipeline.web.guide import guide
from schemas.codec import InvalidRecordError
from schemas.event_reader import EventReader
from schemas.event_type_versions import check_versions, not_subscribed, pins_of, text_of
from schemas.event_types import EventTypes
from schemas.topics import Topics
from tests.unit.schemas.producer_records import Published
from tests.unit.schemas.versioned_types import REFUND, VERSIONED

READER = EventReader(VERSIONED, Topics([]), max_bytes=10_000)


def published(data: object) -> Published:
    value = {"id": "e1", "event_name": "refund_issued", "occurred_at": "2026-03-02T15:04:00Z", "data": data}
    return Published(b"R1", json.dumps(value).encode(), [])


@pytest.mark.parametrize(
    ("data", "version"),
    [({"v": 2, "amount": 1}, 2), ({"v": "2", "amount": 1}, 2), ({"total": "1"}, 1), ({"v": None, "total": "1"}, 1)],
)
def test_an_event_is_checked_by_the_schema_of_its_version(data: object, version: int) -> None:
    event = READER.read(published(data), "oms.orders")
    question = VERSIONED.version_getter("refund_issued", event.payload)
    assert question is not None
    assert question() == version


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"v": 1, "amount": 1}, "data: total is required."),
        ({"v": 2, "total": "1"}, "data: amount is required."),
        ({"v": 3, "amount": 1}, "data.v: It is not one of the known versions: 1, 2."),
        ({"v": True, "total": "1"}, "data.v: It is not one of the known versions: 1, 2."),
        ({"v": {"a": 1}}, "data.v: It is not one of the known versions: 1, 2."),
    ],
)
def test_an_event_that_violates_the_schema_of_its_version_is_a_dead_letter(data: object, said: str) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        READER.read(published(data), "oms.orders")
    assert (caught.value.reason.value, str(caught.value)) == ("invalid_payload", said)


def test_an_endpoint_gets_the_version_that_it_pins_or_every_version() -> None:
    index = Subscriptions()
    for number, pins in enumerate(({}, {"refund_issued": 1}, {"refund_issued": 2}, {"refund_issued": 7}, {"other": 1})):
        one = _endpoint(("refund_issued",), NO_FILTERS, pins)
        object.__setattr__(one, "id", number)
        index.add(one)

    def got(payload: object) -> list[int]:
        seen = MatchInput("refund_issued", lambda: payload, version=VERSIONED.version_getter("refund_issued", lambda: payload))
        return [one.id for one in index.matching(seen)]

    assert got({"total": "1"}) == [0, 1, 4]
    assert got({"v": 2, "amount": 1}) == [0, 2, 4]
    assert VERSIONED.version_getter("order_completed", dict) is None, "an event type with a single version is not checked"


def test_a_pin_of_a_removed_version_gets_nothing() -> None:
    left = EventTypes([replace(REFUND, earlier=())])
    index = Subscriptions()
    for number, pins in enumerate(({}, {"refund_issued": 1}, {"refund_issued": 2})):
        one = _endpoint(("refund_issued",), NO_FILTERS, pins)
        object.__setattr__(one, "id", number)
        index.add(one)

    payload = {"v": 2, "amount": 1}
    seen = MatchInput("refund_issued", lambda: payload, version=left.version_getter("refund_issued", lambda: payload))

    assert [one.id for one in index.matching(seen)] == [0, 2]


def test_pins_are_checked() -> None:
    assert check_versions({"refund_issued": 2}, VERSIONED) == {"refund_issued": 2}
    assert check_versions(None, VERSIONED) == {}
    assert check_versions({"order_completed": 1}, VERSIONED) == {"order_completed": 1}
    wrong: tuple[object, ...] = (
        [],
        "refund_issued=1",
        {"refund_issued": 3},
        {"refund_issued": True},
        {"refund_issued": "1"},
        {"no": 1},
        {"refund_issued": [1]},
    )
    for one in wrong:
        with pytest.raises(ValueError, match=r"^event_type_versions "):
            check_versions(one, VERSIONED)
    assert not_subscribed({"refund_issued": 1}, ["order_completed"]) is not None


@pytest.mark.parametrize("text", ["refund_issued=1, a_b=2", "refund_issued = 1\na_b=2", "refund_issued=1 a_b=2"])
def test_pins_may_be_written_in_several_ways(text: str) -> None:
    pins = {"refund_issued": 1, "a_b": 2}
    assert pins_of(text) == pins
    assert pins_of(text_of(pins)) == pins
    assert pins_of("") == {}
    assert pins_of("refund_issued=x") == "refund_issued=x", "left to the field's own rule"


def test_the_guide_the_api_and_the_published_schema_contain_every_version() -> None:
    one = next(one for one in event_types(VERSIONED).event_types if one.name == "refund_issued")
    assert (one.version, one.sample["data"], [earlier.version for earlier in one.versions]) == (2, REFUND.sample, [1])
    assert one.versions[0].sample["data"] == {"total": "4.99"}
    jsonschema.validate(one.sample, one.json_schema)
    jsonschema.validate(one.versions[0].sample, one.versions[0].json_schema)
    assert b"Version 1, which is also sent" in guide(VERSIONED).response().body  # type: ignore[operator]
    producers = jsonschema.Draft202012Validator(VERSIONED.published_schema())
    for data in ({"total": "1"}, {"v": 2, "amount": 1}):
        assert producers.is_valid(json.loads(published(data).value or b""))
    assert not producers.is_valid(json.loads(published({"v": 2}).value or b""))
