"""The payload is passed on byte for byte; only an Order's guest token is removed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.event import EventType
from schemas.event_codec import decode_event, webhook_body
from tests.property_examples import examples
from tests.unit.sample_events import HEAD, event, event_of, payload_of

SHIPMENT_HEAD = HEAD.replace("order_completed", "shipment_updated")
BODY_HEAD = b'{"id":"evt_1","event_name":"order_completed","created_at":"2026-03-02T15:04:00.512Z","data":'


def data_of(value: bytes) -> bytes:
    return decode_event(value, max_bytes=1 << 20).data


# --- any JSON, in any spelling ---

spaces = st.text(" \t\r\n", max_size=3)
integers = st.integers(-(10**30), 10**30).map(str)
numbers = integers | st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
escapes = st.sampled_from(
    ["\\n", "\\/", "\\\\", '\\"', "\\u0041", "\\u00E9", "\\ud83d\\ude00", "\\uFFFF", "\\u0000", "é", "😀", "/", "\x7f", "\u2028"]
)
strings = st.lists(
    escapes | st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"], exclude_characters='"\\'), max_size=6)
).map(lambda parts: '"' + "".join(parts) + '"')


def _spaced(opening: str, items: list[str], closing: str, space: str) -> str:
    return opening + space + f"{space},{space}".join(items) + space + closing


def _containers(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.tuples(strings, spaces, spaces, children).map(lambda member: f"{member[0]}{member[1]}:{member[2]}{member[3]}")
    return st.builds(_spaced, st.just("["), st.lists(children, max_size=4), st.just("]"), spaces) | st.builds(
        _spaced, st.just("{"), st.lists(members, max_size=4), st.just("}"), spaces
    )


documents = st.recursive(numbers | strings | st.sampled_from(["true", "false", "null"]), _containers, max_leaves=8)
short_values = st.sampled_from(["1.10", "1E2", "null", "[ 1 ,2]", '{"token" : 1}']) | numbers | strings


@settings(max_examples=examples(60))
@given(documents, spaces, spaces)
def test_any_json_in_an_unknown_field_keeps_its_bytes(document: str, before: str, after: str) -> None:
    data = f'{{{before}"number"{before}:{after}"H1"{after},"later"{before}:{after}{document}{before}}}'
    value = event(f"{after}{data}{before}", head=SHIPMENT_HEAD)

    decoded = decode_event(value, max_bytes=1 << 20)

    assert decoded.data == data.encode()
    assert webhook_body(decoded).endswith(b',"data":' + data.encode() + b"}")


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "email", "total"]), short_values), max_size=6))
def test_members_keep_their_order_and_duplicates_are_kept(members: list[tuple[str, str]]) -> None:
    data = "{" + ",".join([*(f'"{name}":{value}' for name, value in members), '"number":"R1"']) + "}"

    assert data_of(event(data)) == data.encode()


@pytest.mark.parametrize(
    "data",
    [
        '{"number":"R1","total":1.10,"tax":1E2,"rate":-0.0,"tiny":1e-9,"big":123456789012345678901234567890}',
        '{"number":"R1","x":1e999,"y":1e-999}',
        '{ "number" : "R1" ,\r\n\t"a" : [ 1 , 2 ] }',
        '{"number":"\\u0052\\u0031","a":"\\u00e9\\/\\ud83d\\ude00"}',
        '{"z":1,"a":2,"number":"R1","a":3,"a":3}',
        '{"number":"R1","empty":{},"none":[],"deep":{"a":{"a":{"a":[[[]]]}}}}',
        '{"number":"R1","\\u0061":1,"é":"\u2028","":null}',
    ],
)
def test_spellings_are_kept(data: str) -> None:
    decoded = decode_event(event(data), max_bytes=1 << 20)

    assert decoded.data == data.encode()
    assert webhook_body(decoded) == BODY_HEAD + data.encode() + b"}"


def test_the_body_is_the_same_each_time() -> None:
    value = event_of(EventType.ORDER_COMPLETED)

    assert webhook_body(decode_event(value, max_bytes=1 << 20)) == webhook_body(decode_event(value, max_bytes=1 << 20))


# --- what filters see ---


def test_the_parsed_payload_is_that_of_the_bytes() -> None:
    decoded = decode_event(event('{"number":"R1","a":[1,2.5,true,null,"x"],"a":{"b":1}}'), max_bytes=1 << 20)

    assert decoded.payload() == {"number": "R1", "a": {"b": 1}}


def test_a_decoded_payload_can_be_parsed_for_filters() -> None:
    assert decode_event(event('{"number":"R1","x":1e999}'), max_bytes=1 << 20).payload()["number"] == "R1"


# --- the guest token ---


@pytest.mark.parametrize("event_type", [EventType.ORDER_COMPLETED, EventType.ORDER_CANCELLED])
def test_the_guest_token_of_the_samples_is_removed(event_type: EventType) -> None:
    assert b"guest-token" in event_of(event_type)

    assert b"guest-token" not in data_of(event_of(event_type))


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ('{"number":"R1","token":"guest"}', '{"number":"R1"}'),
        ('{"token":"guest","number":"R1"}', '{"number":"R1"}'),
        ('{"number":"R1","token":null}', '{"number":"R1"}'),
        ('{"number":"R1","token":{"guest":["guest"]}}', '{"number":"R1"}'),
        ('{"token":"guest","number":"R1","token":"guest"}', '{"number":"R1"}'),
        ('{"number":"R1","token":"a","\\u0074oken":"guest"}', '{"number":"R1"}'),
        (
            '{"a":1.10,"token":"guest","b":1E2,"c":{"x" : [1 ,2]},"number":"R1"}',
            '{"a":1.10,"b":1E2,"c":{"x" : [1 ,2]},"number":"R1"}',
        ),
        ('{"number":"R1","a\\"b\\\\":1,"token":"guest"}', '{"number":"R1","a\\"b\\\\":1}'),
    ],
)
def test_the_guest_token_is_removed_and_the_rest_stays(data: str, kept: str) -> None:
    assert data_of(event(data)) == kept.encode()


@pytest.mark.parametrize("name", ["\\u0074oken", "tok\\u0065n", "\\u0074\\u006f\\u006B\\u0065\\u006e"])
def test_the_guest_token_is_removed_however_its_name_is_spelled(name: str) -> None:
    assert json.loads(data_of(event(f'{{"number":"R1","{name}":"guest"}}'))) == {"number": "R1"}


@pytest.mark.parametrize("more", ["", "[" * 150 + "]" * 150])
def test_only_the_payloads_own_token_is_removed_among_many(more: str) -> None:
    inner = ",".join(['{"token":"theirs"}'] * 200)
    data = data_of(event(f'{{"payments":[{inner}],"token":"guest","é":1.10,"number":"R1","x":[{more}]}}'))

    assert data == f'{{"payments":[{inner}],"é":1.10,"number":"R1","x":[{more}]}}'.encode()


def test_a_pretty_printed_payload_keeps_its_layout() -> None:
    assert data_of(event('{\n  "number" : "R1" ,\n  "token" : "guest"\n}')) == b'{\n  "number" : "R1" \n}'
    assert data_of(event('{\n  "token" : "guest" ,\n  "number" : "R1"\n}')) == b'{\n  "number" : "R1"\n}'


@pytest.mark.parametrize(
    "data",
    [
        '{"number":"R1","payments":[{"source":{"token":"of a payment"}}],"metadata":{"token":"x"}}',
        '{"number":"R1","note":"token","Token":"x","tokens":1}',
        '{"number":"R1","note":"\\"token\\":1"}',
    ],
)
def test_other_tokens_are_kept(data: str) -> None:
    assert data_of(event(data)) == data.encode()


def test_the_token_of_other_objects_is_kept() -> None:
    data = '{"number":"H1","token":"x"}'

    assert data_of(event(data, head=SHIPMENT_HEAD)) == data.encode()


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "token", "number"]), short_values), max_size=5))
def test_removing_the_token_leaves_everything_around_it(members: list[tuple[str, str]]) -> None:
    data = "{" + ",".join([*(f'"{name}":{value}' for name, value in members), '"number":"R1"']) + "}"

    def without_token(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return [(name, value) for name, value in dict(pairs).items() if name != "token"]

    def parse(text: str | bytes) -> Any:
        return json.loads(text, object_pairs_hook=lambda pairs: pairs, parse_float=str, parse_int=str)

    assert without_token(parse(data_of(event(data)))) == without_token(parse(data))
    assert "token" not in dict(parse(data_of(event(data))))


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ('{"number":"R1","é":1,"token":"guest"}', '{"number":"R1","é":1}'),
        ('{"number":"R1","\\u0061":1,"token":"guest"}', '{"number":"R1","\\u0061":1}'),
        ('{"number":"R1","a":1,"a":2,"token":"guest"}', '{"number":"R1","a":1,"a":2}'),
    ],
    ids=["a name that is not ASCII", "a name with escapes", "a member that is there twice"],
)
def test_other_members_keep_every_byte_when_the_token_is_removed(data: str, kept: str) -> None:
    assert data_of(event(data)) == kept.encode()


def test_a_sample_order_differs_from_its_body_only_by_the_token() -> None:
    sent = json.loads(webhook_body(decode_event(event_of(EventType.ORDER_COMPLETED), max_bytes=1 << 20)))["data"]
    published = json.loads(payload_of(EventType.ORDER_COMPLETED))

    assert published.pop("token") == "kQ3-guest-token"
    assert list(sent.items()) == list(published.items())
