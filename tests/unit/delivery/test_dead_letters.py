from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from pipeline.broker.api import Record
from pipeline.delivery.dead_letters import MAX_LINES, DeadLetters
from pipeline.ops import metrics
from schemas.codec import from_header, to_header
from schemas.delivery import DEAD_LETTER_HEADER, DeadLetter, DeadLetterReason
from schemas.topics import MAX_RECORD_BYTES, MIB
from tests.unit.fake_kafka import FakeProducer, Sent, record, settle
from tests.unit.sample_events import NOW

TOPIC = "webhooks.dead-letters"
LETTER = DeadLetter(
    reason=DeadLetterReason.NOT_JSON, detail="The value is not JSON.", topic="oms.orders", partition=3, offset=41, failed_at=NOW
)


async def sent_as_dead_letter(unusable: Record) -> Sent:
    producer = FakeProducer()
    await DeadLetters(producer, TOPIC, lambda: NOW).send(unusable, LETTER.reason, LETTER.detail)
    [sent] = producer.sent
    return sent


@pytest.mark.parametrize("value", [b"", b"\xff\x00 not JSON", b'{"a": 1.10}', None])
async def test_a_dead_letter_keeps_the_record_unchanged(value: bytes | None) -> None:
    headers = [("trace", b"\xff\x00"), ("trace", b"again")]

    sent = await sent_as_dead_letter(record(value, key=b"\xfeR1", headers=headers))

    assert (sent.topic, sent.key, sent.value) == (TOPIC, b"\xfeR1", value)
    assert sent.headers[:2] == headers
    assert [name for name, _ in sent.headers[2:]] == [DEAD_LETTER_HEADER]
    assert from_header(sent.headers, DEAD_LETTER_HEADER, DeadLetter) == LETTER


async def test_the_record_itself_is_not_changed() -> None:
    headers: list[tuple[str, bytes]] = []

    await sent_as_dead_letter(record(b"x", headers=headers))

    assert headers == []


async def test_a_record_without_a_key_becomes_a_dead_letter() -> None:
    assert (await sent_as_dead_letter(record(b"x", key=None))).key is None


async def test_sending_is_done_when_kafka_has_acknowledged() -> None:
    producer = FakeProducer(hold=True)
    sending = asyncio.ensure_future(DeadLetters(producer, TOPIC, lambda: NOW).send(record(b"x"), LETTER.reason, LETTER.detail))
    await settle()
    assert not sending.done()

    producer.sent[0].acknowledge()
    assert (await sending).topic == TOPIC


async def test_dead_letters_are_counted_and_logged_without_the_payload(capsys: pytest.CaptureFixture[str]) -> None:
    counter = metrics.DEAD_LETTERS.labels("oms.orders", "not_json")
    before = counter._value.get()

    await sent_as_dead_letter(record(b"hidden value", key=b"hidden key", headers=[("h", b"hidden header")]))

    assert counter._value.get() == before + 1
    written = "".join(capsys.readouterr())
    assert "not_json" in written
    assert "41" in written
    assert "hidden" not in written


async def test_a_republished_dead_letter_gets_its_new_reason() -> None:
    old = to_header(DEAD_LETTER_HEADER, replace(LETTER, reason=DeadLetterReason.TOO_LARGE, offset=1))

    sent = await sent_as_dead_letter(record(b"x", headers=[("trace", b"1"), old]))

    assert from_header(sent.headers, DEAD_LETTER_HEADER, DeadLetter) == LETTER


async def test_a_record_with_a_null_header_becomes_a_dead_letter() -> None:
    null: Any = None

    assert (await sent_as_dead_letter(record(b"x", headers=[("trace", null)]))).value == b"x"


async def test_a_record_without_key_and_value_becomes_a_dead_letter() -> None:
    sent = await sent_as_dead_letter(record(None, key=None))

    assert (sent.key, sent.value) == (None, b"")
    assert from_header(sent.headers, DEAD_LETTER_HEADER, DeadLetter) == replace(LETTER, null_value=True)


@pytest.mark.parametrize(
    "large",
    [
        record(b"x" * (MAX_RECORD_BYTES + 1)),
        record(b"x" * MAX_RECORD_BYTES, key=b"k" * 9),
        record(b"x", key=b"k" * (MAX_RECORD_BYTES + 1)),
        record(None, headers=[("a", b"1"), ("b", b"x" * MAX_RECORD_BYTES), ("c", b"2")]),
    ],
    ids=["value", "value and key", "key", "headers"],
)
async def test_a_record_that_is_too_large_is_truncated(large: Record) -> None:
    sent = await sent_as_dead_letter(large)

    letter = from_header(sent.headers, DEAD_LETTER_HEADER, DeadLetter)
    assert letter.truncated
    assert letter.detail.startswith("The value is not JSON. ")
    assert letter.detail.endswith("the full record is in oms.orders, partition 3, at offset 41.")
    assert sent.value == (large.value and large.value[:MIB])
    assert sent.key == (large.key and large.key[:MIB])
    assert [header for header in sent.headers if header[0] != DEAD_LETTER_HEADER] == list(large.headers[:1])
    assert (large.key is None) == (sent.key is None)


async def test_the_largest_record_that_a_topic_accepts_is_kept_whole() -> None:
    sent = await sent_as_dead_letter(record(b"x" * (MAX_RECORD_BYTES - 2)))

    assert len(sent.value or b"") == MAX_RECORD_BYTES - 2
    assert not from_header(sent.headers, DEAD_LETTER_HEADER, DeadLetter).truncated


async def test_a_long_detail_is_truncated() -> None:
    producer = FakeProducer()
    await DeadLetters(producer, TOPIC, lambda: NOW).send(record(b"x"), LETTER.reason, "x" * 3_000)

    assert from_header(producer.sent[0].headers, DEAD_LETTER_HEADER, DeadLetter).detail == "x" * 2_000


async def test_a_faulty_producer_of_events_does_not_fill_the_log() -> None:
    aside = DeadLetters(FakeProducer(), TOPIC, lambda: NOW)
    with capture_logs() as logs:
        for _ in range(1000):
            await aside.send(record(b"x"), LETTER.reason, LETTER.detail)
        await aside.send(record(b"x"), DeadLetterReason.NULL_VALUE, "another kind is logged")
        aside._minute_is_over(LETTER.topic, LETTER.reason)
        await aside.send(record(b"x"), LETTER.reason, LETTER.detail)
    said = [line for line in logs if line["event"] == "dead letter"]
    assert len(said) == MAX_LINES + 2, "of the second minute, too"
    assert [line["times"] for line in logs if line["event"] == "more dead letters"] == [1000 - MAX_LINES]
