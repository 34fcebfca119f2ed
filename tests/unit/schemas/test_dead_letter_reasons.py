"""What is said about unusable events: a reason as a word, a sentence, and no customer data."""

from __future__ import annotations

import pytest

from schemas.codec import InvalidRecordError
from schemas.delivery import DeadLetterReason
from schemas.event_codec import decode_event
from tests.unit.sample_events import HEAD, event

BIG = 1 << 20


def refused(value: bytes | str | None) -> InvalidRecordError:
    with pytest.raises(InvalidRecordError) as caught:
        decode_event(value.encode() if isinstance(value, str) else value, max_bytes=BIG)
    return caught.value


@pytest.mark.parametrize(
    ("value", "reason", "sentence"),
    [
        (None, "null_value", "The record has no value; publish the event as JSON."),
        (b"", "not_json", "The value is not JSON: "),
        (b"\xef\xbb\xbf" + event(), "not_json", "The value is not JSON: "),
        (b"{", "not_json", "The value is not JSON: "),
        (event() + b"x", "not_json", "The value is not JSON: "),
        (event('{"number":"R1","x":NaN}'), "not_json", "The value is not JSON: "),
        (event('{"number":"R1","x":Infinity}'), "not_json", "The value is not JSON: "),
        (event('{"number":"R1","x":-Infinity}'), "not_json", "The value is not JSON: "),
        (event('{"number":"R1","x":01}'), "not_json", "The value is not JSON: "),
        (event('{"number":"R1","x":"\\ud800"}'), "not_json", "The value is not JSON: "),
        (event('{"number":"R1","\\udfff":1}'), "not_json", "The value is not JSON: "),
        (event(more=',"\\ud800":1'), "not_json", "The value is not JSON: "),
        (event('{"number":"R1","x":"?"}').replace(b"?", b"\xff"), "not_json", "The value is not JSON: "),
        (event('{"number":"R1","?":1}').replace(b"?", b"\xff"), "not_json", "The value is not JSON: "),
        (event('{"number":"R1","x":"?"}').replace(b"?", b"\xed\xa0\x80"), "not_json", "The value is not JSON: "),
        (event(more=',"?":1').replace(b"?", b"\xff"), "not_json", "The value is not JSON: "),
        (event('{"number":"R1","x":' + "[" * 250 + "]" * 250 + "}"), "not_json", "The value is not JSON: "),
        (event('{"number":"R1","x":' + "[" * 50_000 + "]" * 50_000 + "}"), "not_json", "The value is nested too deeply."),
        (b'{"a":' * 50_000, "not_json", "The value is nested too deeply."),
        (b"[]", "invalid_envelope", "The value is not a JSON object: "),
        (b"null", "invalid_envelope", "The value is not a JSON object: "),
        (b'"order_completed"', "invalid_envelope", "The value is not a JSON object: "),
        (b"{}", "invalid_envelope", "event_name: Field required."),
        (
            event(head=HEAD.replace('"order_completed"', '"order_paid"')),
            "unknown_event",
            "event_name is not one of the built-in event types.",
        ),
        (
            event(head=HEAD.replace('"order_completed"', "null")),
            "unknown_event",
            "event_name is not one of the built-in event types.",
        ),
        (
            event(head=HEAD.replace('"order_completed"', '{"a":[]}')),
            "unknown_event",
            "event_name is not one of the built-in event types.",
        ),
        (
            event(more=',"schema_version":2'),
            "unsupported_version",
            "The record has schema_version 2; this release reads up to 1. Upgrade",
        ),
        (event(more=', "schema_version" : 999999999 '), "unsupported_version", "The record has schema_version 999999999; "),
        (event(more=',"schema_version":0'), "invalid_envelope", "schema_version: "),
        (event(more=',"schema_version":"1"'), "invalid_envelope", "schema_version: "),
        (event(more=',"schema_version":2.0'), "invalid_envelope", "schema_version: "),
        (event(more=',"schema_version":null'), "invalid_envelope", "schema_version: "),
        (event(head=HEAD.replace('"evt_1"', '"evt 1"')), "invalid_envelope", "id: "),
        (event(head=HEAD.replace('"evt_1"', '"evt.1"')), "invalid_envelope", "id: "),
        (event(head=HEAD.replace('"evt_1"', '"evt_1\\n"')), "invalid_envelope", "id: "),
        (event(head=HEAD.replace('"evt_1"', '"é"')), "invalid_envelope", "id: "),
        (event(head=HEAD.replace('"evt_1"', '""')), "invalid_envelope", "id: "),
        (event(head=HEAD.replace('"evt_1"', '"' + "e" * 129 + '"')), "invalid_envelope", "id: "),
        (event(head=HEAD.replace('"evt_1"', "7")), "invalid_envelope", "id: "),
        (f"{{{HEAD}}}", "invalid_envelope", "data: Field required."),
        (event("null"), "invalid_envelope", "data: "),
        (event("[1]"), "invalid_envelope", "data: "),
        (event(more=',"references":null'), "invalid_envelope", "references: "),
        (event(more=',"references":{"subscription_id":5}'), "invalid_envelope", "references.subscription_id: "),
        (event("{}"), "invalid_payload", "data.number: Field required."),
        (event('{"number":null}'), "invalid_payload", "data.number: "),
        (event('{"number":""}'), "invalid_payload", "data.number: "),
        (event('{"number":5}'), "invalid_payload", "data.number: "),
        (event('{"number":"' + "R" * 256 + '"}'), "invalid_payload", "data.number: "),
        (event("{}", head=HEAD.replace("order_completed", "shipment_shipped")), "invalid_payload", "data.number: "),
        (event("{}", head=HEAD.replace("order_completed", "stock_item_out_of_stock")), "invalid_payload", "data.id: "),
        (event('{"id":5.5}', head=HEAD.replace("order_completed", "stock_item_out_of_stock")), "invalid_payload", "data.id: "),
        (event("{}", head=HEAD.replace("evt_1", "")), "invalid_envelope", "id: "),
    ],
)
def test_every_dead_letter_has_a_reason_and_a_sentence(value: bytes | None, reason: str, sentence: str) -> None:
    error = refused(value)

    assert error.reason == reason
    assert str(error).startswith(sentence)
    assert str(error).endswith(".")


def test_the_size_is_limited() -> None:
    value = event()

    assert decode_event(value, max_bytes=len(value)).meta.id == "evt_1"
    with pytest.raises(InvalidRecordError) as caught:
        decode_event(value, max_bytes=len(value) - 1)
    assert caught.value.reason is DeadLetterReason.TOO_LARGE
    assert str(caught.value) == (
        f"The record has {len(value)} bytes; at most {len(value) - 1} are accepted (OMS_WEBHOOKS_MAX_EVENT_BYTES)."
    )


def test_a_very_new_version_is_refused_too() -> None:
    assert refused(event(more=',"schema_version":10000000000')).reason is DeadLetterReason.UNSUPPORTED_VERSION


@pytest.mark.parametrize(
    "value",
    [
        event(head=HEAD.replace('"evt_1"', '"hidden value"')),
        event(head=HEAD.replace("order_completed", "hidden value")),
        event(head=HEAD.replace("2026-03-02T15:04:00.512Z", "hidden value")),
        event('"hidden value"'),
        event('{"number":["hidden value"]}'),
        event('{"number":"' + "hidden value" * 30 + '"}'),
        event(more=',"references":"hidden value"'),
        event(more=',"references":{"subscription_id":["hidden value"]}'),
        event(more=',"schema_version":"hidden value"'),
        event('{"id":"hidden value"}', head=HEAD.replace("order_completed", "stock_item_out_of_stock")),
        event('{"number":"hidden value", hidden value}'),
        event('{"number":"hidden value","x":"\\uhidden value"}'),
        b'["hidden value"]',
        b'{"hidden value":1,',
    ],
)
def test_reasons_contain_no_customer_data(value: bytes) -> None:
    assert "hidden" not in str(refused(value))
