"""Unusable events block nothing (promise 5)."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.broker.api import Record
from pipeline.ops.settings import Settings
from schemas.topics import MAX_EVENT_BYTES_LIMIT, MAX_RECORD_BYTES
from tests.unit.consumers.fanout_case import Scene, dispatch_of
from tests.unit.fake_kafka import record
from tests.unit.sample_events import HEAD, endpoint_record, event


@pytest.mark.parametrize(
    ("unusable", "reason", "detail"),
    [
        (record(event(), key=None), "missing_key", "The record has no key; publish it with the order number"),
        (record(None), "null_value", "The record has no value; "),
        (record(b" " * 100_001), "too_large", "The record has 100,001 bytes; at most 100,000 are accepted"),
        (record(b"\xff\xfe"), "not_json", "The value is not JSON: "),
        (record(b"[]"), "invalid_envelope", "The value is not a JSON object: "),
        (
            record(event(head=HEAD.replace("order_completed", "order_paid"))),
            "unknown_event",
            "event_name is not one of the built-in event types",
        ),
        (record(event(more=',"schema_version":7')), "unsupported_version", "The record has schema_version 7"),
        (record(event("{}")), "invalid_payload", "data.number: Field required."),
    ],
)
async def test_an_unusable_record_becomes_an_unchanged_dead_letter(unusable: Record, reason: str, detail: str) -> None:
    scene = Scene(endpoint_record(7))

    await scene.fan_out.handle(unusable._replace(headers=[("trace", b"1")]))

    sent, letter = scene.only_letter()
    assert (sent.key, sent.value, sent.headers[0]) == (unusable.key, unusable.value, ("trace", b"1"))
    assert letter.reason == reason
    assert letter.detail.startswith(detail)
    assert (letter.topic, letter.partition, letter.offset) == ("oms.orders", 3, 41)
    assert scene.delivery_service.delivered == []


async def test_an_unexpected_error_makes_a_dead_letter_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene(endpoint_record(7))

    def fail(*_: Any) -> None:
        raise LookupError("customer data")

    monkeypatch.setattr(scene.registry, "matching", fail)
    await scene.fan_out.handle(record(event()))

    _, letter = scene.only_letter()
    assert (letter.reason, letter.detail) == ("unexpected_error", "Unexpected LookupError; see the log of the fan-out.")
    assert "an event could not be planned" in "".join(capsys.readouterr())
    assert scene.delivery_service.delivered == []


async def test_a_number_out_of_range_prevents_no_delivery() -> None:
    scene = Scene(endpoint_record(7), endpoint_record(8, filters={"channel": ("spree",)}))

    await scene.fan_out.handle(record(event('{"number":"R1","channel":"spree","x":1e999}')))

    assert [endpoint_id for _, _, endpoint_id, *_ in scene.delivery_service.delivered] == [7, 8]


async def test_a_record_without_key_and_value_blocks_nothing() -> None:
    scene = Scene()

    await scene.fan_out.handle(record(None, key=None))

    assert scene.only_letter()[1].reason in {"missing_key", "null_value"}


async def test_an_unusable_record_with_a_null_header_blocks_nothing() -> None:
    null: Any = None
    scene = Scene()

    await scene.fan_out.handle(record(b"{", headers=[("trace", null)]))

    assert scene.only_letter()[1].reason == "not_json"


async def test_a_record_too_large_for_the_dead_letters_blocks_nothing() -> None:
    scene = Scene()

    await scene.fan_out.handle(record(b" " * (MAX_RECORD_BYTES + 1)))

    sent, letter = scene.only_letter()
    assert len(sent.value or b"") + sum(len(value) for _, value in sent.headers) < MAX_RECORD_BYTES
    assert (letter.reason, letter.truncated) == ("too_large", True)


@pytest.mark.parametrize("timestamp_ms", [1_772_463_840_600_000, 1_772_463_840_600_000_000, 2**63 - 1, -(2**63)])
async def test_a_timestamp_out_of_range_blocks_nothing(timestamp_ms: int) -> None:
    scene = Scene(endpoint_record(7))

    await scene.fan_out.handle(record(event(), timestamp_ms=timestamp_ms))

    assert len(scene.producer.sent) == 1


@pytest.mark.parametrize("timestamp_ms", [-1, 0, 4_102_444_800_000])
async def test_an_implausible_timestamp_blocks_nothing(timestamp_ms: int) -> None:
    scene = Scene(endpoint_record(7))

    await scene.fan_out.handle(record(event(), timestamp_ms=timestamp_ms))

    [(meta, *_)] = scene.delivery_service.delivered
    assert meta.received_at is None
    assert scene.delivery_service.written_at == [None]  # not a first attempt that is 56 years late
    assert abs(dispatch_of(scene.producer.sent[0]).received_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_timestamp_slightly_in_the_future_is_kept() -> None:
    """Reading the record again must yield the same time, because a search uses it to find the body of an attempt."""
    scene = Scene(endpoint_record(7))
    ahead = int(time.time() * 1000) + 60_000

    await scene.fan_out.handle(record(event(), timestamp_ms=ahead))

    [(meta, *_)] = scene.delivery_service.delivered
    assert meta.received_at == dispatch_of(scene.producer.sent[0]).received_at == datetime.fromtimestamp(ahead / 1000, UTC)
    assert scene.delivery_service.written_at == [ahead / 1000]


async def test_the_largest_event_fits_into_the_dispatches_with_its_references() -> None:
    scene = Scene(settings=Settings(_env_file=None, max_event_bytes=MAX_EVENT_BYTES_LIMIT))
    sku = "A" * (MAX_EVENT_BYTES_LIMIT - 300)

    await scene.fan_out.handle(record(event(f'{{"number":"R1","line_items":[{{"variant":{{"sku":"{sku}"}}}}]}}')))

    [sent] = scene.producer.sent
    assert len(sent.value or b"") + sum(len(value) for _, value in sent.headers) < MAX_RECORD_BYTES


async def test_events_in_the_wrong_topic_with_an_empty_key_or_compressed_are_dead_letters() -> None:
    for unusable, reason, detail in (
        (
            record(event(), topic="oms.shipments"),
            "unknown_event",
            "order_completed belongs in oms.orders; this is oms.shipments.",
        ),
        (record(event(), key=b""), "missing_key", "The record has no key; "),
        (record(b"\x1f\x8b\x08\x00"), "not_json", "The value is not JSON: it looks like gzip. "),
    ):
        scene = Scene(endpoint_record(7))
        await scene.fan_out.handle(unusable)
        _, letter = scene.only_letter()
        assert (letter.reason, letter.detail[: len(detail)]) == (reason, detail)
        assert scene.delivery_service.delivered == []
