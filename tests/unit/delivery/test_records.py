from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from pipeline.core.exchange import Exchange, Failure, NoResponse, Response
from pipeline.core.outcome import Delivered, Exhausted, RetryLater, Verdict
from pipeline.delivery.delivery import DiscardedDelivery, HeldDelivery, ParkedDelivery
from pipeline.delivery.records import DeliveryRecords, attempt_record, discarded_record, records_of
from schemas.attempt import Attempt, AttemptState, Outcome
from schemas.codec import from_json, to_json
from schemas.delivery import DeliveryRecord, Trigger
from tests.unit.delivery.results import result_of
from tests.unit.sample_events import META

START = datetime(2026, 3, 2, 15, 4, tzinfo=UTC)
END = START + timedelta(seconds=2)


def answer(body: bytes = b"", status: int = 200, **more: Any) -> Response:
    return Response(
        status,
        (("A", "1"), ("a", "2")),
        body,
        **({"body_truncated": False, "duration_ms": 2000.00049, "first_byte_ms": 10.1239} | more),
    )


def record_of(exchange: Exchange, verdict: Verdict) -> Attempt:
    return attempt_record(result_of(exchange, verdict, attempt=3, trigger=Trigger.RESEND, finished_at=END))


def test_a_delivered_attempt() -> None:
    assert record_of(answer(b"thanks"), Delivered()) == Attempt(
        event=META,
        endpoint_id=7,
        target_url="https://hooks.example.com/7",
        attempt=3,
        trigger=Trigger.RESEND,
        state=AttemptState.SUCCEEDED,
        outcome=Outcome.DELIVERED,
        created_at=START,
        duration_ms=2000.0,
        first_byte_ms=10.124,
        http_status_code=200,
        request_headers={"webhook-id": "evt_1"},
        response_headers=(("A", "1"), ("a", "2")),
        response_body="thanks",
    )


def test_an_attempt_that_will_be_retried() -> None:
    record = record_of(answer(status=503), RetryLater(timedelta(minutes=1)))

    assert (record.state, record.outcome) == (AttemptState.FAILED, Outcome.RETRIED)
    assert record.next_attempt_at == END + timedelta(minutes=1)
    assert record.failure is None
    assert (
        record.error == "The endpoint returned 503 (Service Unavailable); only 200, 201, 202 and 204 acknowledge a notification."
    )


@pytest.mark.parametrize("failure", Failure)
def test_an_attempt_without_an_answer(failure: Failure) -> None:
    record = record_of(NoResponse(failure, "It failed.", 5.0), Exhausted())

    assert (record.state, record.outcome) == (AttemptState.FAILED, Outcome.EXHAUSTED)
    assert (record.failure, record.error, record.http_status_code) == (failure.value, "It failed.", None)
    assert (record.first_byte_ms, record.duration_ms, record.next_attempt_at) == (None, 5.0, None)
    assert (record.response_headers, record.response_body, record.response_truncated) == ((), "", False)


def test_the_received_part_of_a_broken_answer_is_kept() -> None:
    exchange = NoResponse(Failure.TRUNCATED, "It broke off.", 5.0, 200, (("A", "1"),), b"half")

    record = record_of(exchange, Exhausted())

    assert (record.http_status_code, record.response_headers, record.response_body) == (200, (("A", "1"),), "half")
    assert record.state is AttemptState.FAILED


def test_a_truncated_answer_is_marked() -> None:
    assert record_of(answer(b"x", body_truncated=True), Delivered()).response_truncated
    assert not record_of(answer(b"x"), Delivered()).response_truncated


@pytest.mark.parametrize(
    ("body", "text", "encoding"),
    [
        (b"", "", "text"),
        ("größer 😀\n\x00".encode(), "größer 😀\n\x00", "text"),
        (b"\xff", "/w==", "base64"),
        ("é".encode()[:1], "ww==", "base64"),
        (b"\xed\xa0\x80", "7aCA", "base64"),
    ],
)
def test_a_body_is_text_or_base64(body: bytes, text: str, encoding: str) -> None:
    record = record_of(answer(body), Delivered())

    assert (record.response_body, record.response_body_encoding) == (text, encoding)


@given(st.binary(max_size=300))
def test_every_body_survives_a_round_trip(body: bytes) -> None:
    record = from_json(to_json(record_of(answer(body), Delivered())), Attempt)

    text = record.response_body
    assert (text.encode() if record.response_body_encoding == "text" else base64.b64decode(text)) == body


def test_a_discarded_attempt() -> None:
    due = DeliveryRecord(event=META, endpoint_id=7, attempt=2)
    discarded = DiscardedDelivery(due, "", "endpoint_deleted", "The endpoint was deleted.")
    record = discarded_record(discarded, START)

    assert (record.state, record.outcome, record.error) == (AttemptState.FAILED, Outcome.DISCARDED, "The endpoint was deleted.")
    assert (record.event, record.endpoint_id, record.target_url) == (META, 7, "")
    assert (record.attempt, record.trigger, record.created_at) == (2, Trigger.RETRY, START)
    assert (record.duration_ms, record.http_status_code, record.request_headers) == (0.0, None, {})


# --- the records of each outcome ---


def test_a_retry_is_written_beside_the_attempt() -> None:
    result = result_of(answer(b"", 500), RetryLater(timedelta(minutes=1)), attempt=2, trigger=Trigger.RETRY)

    records = records_of(result, START)

    assert records.attempt == attempt_record(result)
    assert records.follows == DeliveryRecord(event=META, endpoint_id=7, attempt=3, trigger=Trigger.RETRY)
    assert (records.body, records.delay) == (result.delivery.body, timedelta(minutes=1))


@pytest.mark.parametrize("verdict", [Delivered(), Exhausted()])
def test_nothing_follows_the_last_attempt(verdict: Verdict) -> None:
    result = result_of(answer(b""), verdict)

    assert records_of(result, START) == DeliveryRecords(attempt_record(result))


def test_a_parked_or_held_delivery_has_no_attempt() -> None:
    delivery = replace(result_of(answer(b""), Delivered(), attempt=2, trigger=Trigger.RESEND).delivery, parked=3)
    due = DeliveryRecord(event=META, endpoint_id=7, attempt=2, trigger=Trigger.RESEND, parked=3)

    parked = records_of(ParkedDelivery(delivery, "circuit_open", timedelta(seconds=5)), START)
    held = records_of(HeldDelivery(delivery), START)

    assert parked == DeliveryRecords(None, structs.replace(due, parked=4), delivery.body, timedelta(seconds=5))
    assert held == DeliveryRecords(None, due, delivery.body, None)


def test_a_discarded_delivery_has_only_an_attempt() -> None:
    discarded = DiscardedDelivery(DeliveryRecord(event=META, endpoint_id=7, attempt=2), "", "expired", "Too late.")

    assert records_of(discarded, START) == DeliveryRecords(discarded_record(discarded, START))
