"""The fast path accepts documented events, and its result is that of the models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import event_codec
from schemas.codec import InvalidRecordError
from schemas.event import EventType
from schemas.event_codec import DecodedEvent, decode_event
from schemas.event_fast_path import decode_event_fast
from tests.unit.sample_events import HEAD, event, event_of


def by_the_models(value: bytes) -> DecodedEvent | str:
    """Return what the models make of an event, or the reason why they refuse it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_codec, "decode_event_fast", lambda *_: None)
        return decoded(value)


def decoded(value: bytes) -> DecodedEvent | str:
    try:
        return decode_event(value, max_bytes=1 << 20)
    except InvalidRecordError as error:
        return error.reason.value


@pytest.mark.parametrize("event_type", EventType)
@pytest.mark.parametrize("more", ["", ',"schema_version":1', ',"references":{"subscription_id":"S1","order_number":"R9"}'])
def test_documented_events_take_the_fast_path(event_type: EventType, more: str) -> None:
    value = event_of(event_type, more=more)

    assert decode_event_fast(value) is not None
    assert decoded(value) == by_the_models(value)


TEXTS = st.sampled_from(["", "A", "é", "\u2028", "x" * 255, "x" * 256, "token", 'quo"te', "back\\slash"])
ODD: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS | st.just([]) | st.just({})
)
SKU = st.dictionaries(st.sampled_from(["sku", "variant", "number", "token"]), ODD, max_size=2)
PARTS = st.lists(SKU | st.fixed_dictionaries({"variant": SKU}) | ODD, max_size=4) | ODD
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "number": TEXTS | ODD,
        "id": st.integers() | st.just("7") | ODD,
        "token": TEXTS | ODD,
        "order_id": TEXTS | ODD,
        "variant": SKU | ODD,
        "shipments": PARTS,
        "line_items": PARTS,
        "manifest": PARTS,
    },
)
TIMES = st.sampled_from(
    [
        "2026-03-02T15:04:00Z",
        "2026-03-02T15:04:00.5+01:00",
        "2026-03-02T15:04:00.999999-23:59",
        "2026-03-02T15:04:00.9999999Z",
        "2026-03-02t15:04:00z",
        "2026-03-02 15:04:00Z",
        "2026-03-02T15:04Z",
        "2026-03-02T15:04:00",
        "2026-03-02T15:04:00+24:00",
        "2026-03-02T15:04:00+01:60",
        "2026-02-30T15:04:00Z",
        "2026-03-02T24:00:00Z",
        "2026-03-02T15:04:60Z",
        "0001-01-01T00:00:00+14:00",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "2026-W10-1T15:04:00Z",
        "\uff12026-03-02T15:04:00Z",
        "1772463840",
    ]
)
ENVELOPES = st.fixed_dictionaries(
    {"id": st.sampled_from(["evt_1", "a" * 128]), "event_name": st.sampled_from(list(EventType)), "occurred_at": TIMES}
    | {"data": PAYLOADS},
    optional={
        "schema_version": st.sampled_from([0, 1, 1.0, 2, True, None, "1"]),
        "references": st.dictionaries(st.sampled_from(["subscription_id", "order_number", "x"]), TEXTS | ODD, max_size=2) | ODD,
    },
)


@given(ENVELOPES, st.booleans())
def test_the_fast_path_reads_what_the_models_read(envelope: dict[str, Any], ascii_only: bool) -> None:
    value = json.dumps(envelope, ensure_ascii=ascii_only).encode()

    assert decoded(value) == by_the_models(value)


@given(st.sampled_from(["evt_1\n", "a.b", "", "é", "a b", "a" * 129, "-", "evt_1"]))
@example("evt_1")
def test_the_fast_path_accepts_the_ids_that_the_models_accept(event_id: str) -> None:
    value = event(head=HEAD.replace('"evt_1"', json.dumps(event_id)))

    assert decoded(value) == by_the_models(value)


@pytest.mark.parametrize(
    "broken",
    [
        event('{"number":"R1","x":"?"}').replace(b"?", b"\xff"),
        event('{"number":"R1","x":"\\ud800 "}'),
        event('{"number":"R1","x":"\\ud800\\u0041"}'),
        event('{"number":"R1","x":' + "[" * 199 + "]" * 199 + "}"),
        event('{"number":"R1","number":"R2"}'),
        event('{"number":"R1","x":1e999}'),
        event()[:-1],
        event() + b"{}",
    ],
)
def test_errors_deep_inside_an_event_are_the_same(broken: bytes) -> None:
    assert decoded(broken) == by_the_models(broken)


@pytest.mark.parametrize(
    ("name", "array", "member"), [("order_completed", "shipments", "number"), ("shipment_shipped", "manifest", "sku")]
)
@pytest.mark.parametrize(("before", "found"), [(999, True), (1000, False)])
def test_references_are_those_of_the_first_thousand_elements(
    name: str, array: str, member: str, before: int, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    elements = "{}," * before + f'{{"{member}":"LAST"}}'
    value = event(f'{{"number":"R1","{array}":[{elements}]}}', head=HEAD.replace("order_completed", name))
    monkeypatch.setattr("schemas.event_fast_path._NESTED", 10_000)  # so that the fast path accepts it, too

    by_models = by_the_models(value)

    assert isinstance(by_models, DecodedEvent)
    assert ("LAST" in by_models.meta.shipment_numbers + by_models.meta.skus) is found
    assert decode_event_fast(value) is not None
    assert decoded(value) == by_models
