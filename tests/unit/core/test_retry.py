from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.retry import RetrySchedule, parse_retry_after

S = timedelta(seconds=1)
DELAYS = (5 * S, 60 * S, 600 * S, 3600 * S, 21600 * S)
SCHEDULE = RetrySchedule(DELAYS)
NOW = datetime(2026, 3, 2, 15, 4, tzinfo=UTC)


def test_there_are_six_attempts() -> None:
    assert SCHEDULE.attempts == 6
    assert [SCHEDULE.after(attempt) for attempt in range(1, 8)] == [*DELAYS, None, None]


@given(st.lists(st.timedeltas(S, timedelta(days=2)), min_size=1, max_size=5).map(sorted), st.integers(1, 9))
def test_a_notification_is_retried_once_per_delay(delays: list[timedelta], attempt: int) -> None:
    schedule = RetrySchedule(delays)

    assert schedule.attempts == len(delays) + 1
    assert schedule.after(attempt) == (delays[attempt - 1] if attempt <= len(delays) else None)


@pytest.mark.parametrize(
    ("attempt", "wish", "delay"),
    [
        (1, 0, 5),
        (1, 5, 5),
        (1, 6, 60),
        (1, 61, 600),
        (1, 3601, 21600),
        (1, 10**9, 21600),
        (2, 5, 60),
        (5, 1, 21600),
        (5, 10**9, 21600),
        (6, 1, None),
        (7, 10**9, None),
    ],
)
def test_retry_after_selects_the_first_delay_that_is_not_shorter(attempt: int, wish: int, delay: int | None) -> None:
    assert SCHEDULE.after(attempt, wish * S) == (None if delay is None else delay * S)


@given(st.integers(1, 5), st.timedeltas(timedelta(0), timedelta(days=365)))
def test_retry_after_never_makes_a_retry_earlier_and_always_has_a_topic(attempt: int, wish: timedelta) -> None:
    delay = SCHEDULE.after(attempt, wish)

    assert delay in DELAYS
    assert delay >= DELAYS[attempt - 1]
    assert delay >= min(wish, DELAYS[-1])


# --- Retry-After ---


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0), ("120", 120), (" 30\t", 30), ("007", 7), ("1" * 10, 10**9), ("9" * 5000, 10**9), (str(2**64), 10**9)],
)
def test_seconds(value: str, seconds: int) -> None:
    assert parse_retry_after(value, NOW) == seconds * S


@pytest.mark.parametrize(
    "value",
    [
        "Mon, 02 Mar 2026 15:06:00 GMT",
        "Monday, 02-Mar-26 15:06:00 GMT",
        "Mon Mar  2 15:06:00 2026",
        " Mon, 02 Mar 2026 16:06:00 +0100 ",
    ],
    ids=["IMF-fixdate", "RFC 850", "asctime", "with an offset"],
)
def test_dates(value: str) -> None:
    assert parse_retry_after(value, NOW) == 120 * S


@pytest.mark.parametrize(
    "value", ["Mon, 02 Mar 2026 15:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 GMT"]
)
def test_a_date_in_the_past_means_now(value: str) -> None:
    assert parse_retry_after(value, NOW) == timedelta(0)


@given(st.integers(0, 2**33).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
def test_every_http_date_is_parsed(date: datetime) -> None:
    assert parse_retry_after(format_datetime(date, usegmt=True), NOW) == max(timedelta(0), date - NOW)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "soon",
        "-5",
        "5.5",
        "5s",
        "1e3",
        "0x10",
        "²",
        "\N{ARABIC-INDIC DIGIT FIVE}",
        "5, 6",
        "2026-03-02T15:06:00Z",
        "Mon, 32 Mar 2026 15:06:00 GMT",
        "\x00",
    ],
)
def test_invalid_values_are_ignored(value: str) -> None:
    assert parse_retry_after(value, NOW) is None


HUGE_DATES = [
    "Mon, 02 Mar 2026 15:06:00 +9999999999999999",
    "Mon, 02 Mar 2026 99999999999999999999:06:00 GMT",
    "9499999999999 Nov 07:28:00 0",
]


@pytest.mark.parametrize("value", HUGE_DATES)
def test_a_date_with_huge_numbers_is_ignored(value: str) -> None:
    assert parse_retry_after(value, NOW) is None


date_pieces = st.sampled_from(
    [
        "Mon,",
        "02",
        "Mar",
        "2026",
        "15:06:00",
        "GMT",
        "+0100",
        "-",
        "+",
        "-0000",
        ":",
        ",",
        " ",
        "Monday",
        "02-Mar-26",
        "99",
        "15:06",
        "am",
        "(",
    ]
)


@given(st.text(max_size=30) | st.lists(date_pieces, max_size=9).map(" ".join))
@example("Mon, 02 Mar 2026 15:06:00 +2400")
@example("Wed, 21 Oct 99999 07:28:00 GMT")
@example("31 Dec 9999 23:59:59 -1400")
def test_any_text_is_parsed_or_ignored(value: str) -> None:
    wish = parse_retry_after(value, NOW)

    assert wish is None or wish >= timedelta(0)
