from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.core.exchange import Failure, Headers, NoResponse, Response
from pipeline.core.outcome import Delivered, Exhausted, RetryLater, error_sentence, judge
from pipeline.core.retry import RetrySchedule

DELAYS = tuple(timedelta(seconds=seconds) for seconds in (5, 60, 600, 3600, 21600))
SCHEDULE = RetrySchedule(DELAYS)
NOW = datetime(2026, 3, 2, 15, 4, tzinfo=UTC)
ACKNOWLEDGING = {200, 201, 202, 204}


def answer(status: int, headers: Headers = (), *, truncated: bool = False) -> Response:
    return Response(status, headers, b"", body_truncated=truncated, duration_ms=2.0, first_byte_ms=1.0)


@pytest.mark.parametrize("attempt", range(1, 8))
def test_only_four_statuses_acknowledge(attempt: int) -> None:
    expected = RetryLater(DELAYS[attempt - 1]) if attempt <= 5 else Exhausted()
    for status in range(100, 600):
        verdict = judge(answer(status), attempt, SCHEDULE, NOW)
        assert verdict == (Delivered() if status in ACKNOWLEDGING else expected), status


@pytest.mark.parametrize("failure", Failure)
@pytest.mark.parametrize("status", [None, 200, 204, 503])
def test_an_unusable_answer_is_a_failure_whatever_its_status(failure: Failure, status: int | None) -> None:
    exchange = NoResponse(failure, "It failed.", 1.0, status)

    verdicts = [judge(exchange, attempt, SCHEDULE, NOW) for attempt in range(1, 7)]

    assert verdicts == [*(RetryLater(delay) for delay in DELAYS), Exhausted()]


def test_an_answer_that_is_longer_than_what_is_read_acknowledges() -> None:
    assert judge(answer(200, truncated=True), 1, SCHEDULE, NOW) == Delivered()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((("retry-after", "30"),), 60),
        ((("RETRY-AFTER", " 3000 "),), 3600),
        ((("Retry-After", "Mon, 02 Mar 2026 15:13:00 GMT"),), 600),
        ((("Retry-After", "1000000"),), 21600),
        ((("Retry-After", "1"),), 5),
        ((("Retry-After", "-1"),), 5),
        ((("Retry-After", "later"),), 5),
        ((("X-Retry-After", "3000"),), 5),
        ((("A", "b"), ("Retry-After", "30"), ("Retry-After", "3000")), 60),
    ],
)
@pytest.mark.parametrize("status", [302, 400, 429, 503])
def test_retry_after_is_respected(status: int, headers: Headers, seconds: int) -> None:
    assert judge(answer(status, headers), 1, SCHEDULE, NOW) == RetryLater(timedelta(seconds=seconds))


def test_retry_after_adds_no_attempt() -> None:
    assert judge(answer(503, (("Retry-After", "1"),)), 6, SCHEDULE, NOW) == Exhausted()


def test_retry_after_does_not_undo_an_acknowledgement() -> None:
    assert judge(answer(200, (("Retry-After", "30"),)), 1, SCHEDULE, NOW) == Delivered()


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (500, "The endpoint returned 500 (Internal Server Error); only 200, 201, 202 and 204 acknowledge a notification."),
        (
            203,
            "The endpoint returned 203 (Non-Authoritative Information); only 200, 201, 202 and 204 acknowledge a notification.",
        ),
        (599, "The endpoint returned 599; only 200, 201, 202 and 204 acknowledge a notification."),
        (301, "The endpoint returned 301 (Moved Permanently). Redirects are not followed: register the final URL."),
        (399, "The endpoint returned 399. Redirects are not followed: register the final URL."),
        (400, "The endpoint returned 400 (Bad Request); only 200, 201, 202 and 204 acknowledge a notification."),
    ],
)
def test_the_error_is_a_sentence(status: int, sentence: str) -> None:
    assert error_sentence(answer(status)) == sentence


def test_there_is_an_error_exactly_when_it_was_not_acknowledged() -> None:
    for status in range(100, 1000):
        assert (error_sentence(answer(status)) is None) == (status in ACKNOWLEDGING)
    assert error_sentence(NoResponse(Failure.DNS, "shop.example: the host name does not resolve.", 1.0)) == (
        "shop.example: the host name does not resolve."
    )
