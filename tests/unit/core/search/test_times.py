"""Times as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.search import AttemptQuery, Condition, Predicate, parse_query
from pipeline.core.search.problems import NotUsableError
from pipeline.core.search.times import EARLIEST, LATEST, TimeRange, read_time

NOW = datetime(2026, 3, 4, 15, 30, 45, 123_000, UTC)
"""A Wednesday."""


def day(month: int, number: int, year: int = 2026) -> TimeRange:
    return TimeRange(datetime(year, month, number, tzinfo=UTC), is_day=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-02", day(3, 2)),
        ("20260302", day(3, 2)),
        ("2026-3-2", day(3, 2)),
        ("2026/03/02", day(3, 2)),
        ("2024-02-29", day(2, 29, 2024)),
        ("today", day(3, 4)),
        ("Yesterday", day(3, 3)),
        ("tomorrow", day(3, 5)),
        ("last monday", day(3, 2)),
        ("monday", day(3, 2)),
        ("Last  Wednesday", day(2, 25)),
        ("thursday", day(2, 26)),
        ("now", TimeRange(NOW)),
        ("-2h", TimeRange(NOW - timedelta(hours=2))),
        ("2h", TimeRange(NOW - timedelta(hours=2))),
        ("90m", TimeRange(NOW - timedelta(minutes=90))),
        ("last 24 h", TimeRange(NOW - timedelta(hours=24))),
        ("Last 24h", TimeRange(NOW - timedelta(hours=24))),
        ("past 7 days", TimeRange(NOW - timedelta(days=7))),
        ("90 min", TimeRange(NOW - timedelta(minutes=90))),
        ("3d", TimeRange(NOW - timedelta(days=3))),
        ("2w", TimeRange(NOW - timedelta(weeks=2))),
        ("30s", TimeRange(NOW - timedelta(seconds=30))),
        ("2 hours ago", TimeRange(NOW - timedelta(hours=2))),
        ("999999w", TimeRange(EARLIEST)),
        ("2026-03-02T15:04:00Z", TimeRange(datetime(2026, 3, 2, 15, 4, tzinfo=UTC))),
        ("2026-03-02T15:04:00.512z", TimeRange(datetime(2026, 3, 2, 15, 4, 0, 512_000, UTC))),
        ("2026-03-02 15:04", TimeRange(datetime(2026, 3, 2, 15, 4, tzinfo=UTC))),
        ("20260302T150400Z", TimeRange(datetime(2026, 3, 2, 15, 4, tzinfo=UTC))),
        ("2026-03-02T15:04:00 UTC", TimeRange(datetime(2026, 3, 2, 15, 4, tzinfo=UTC))),
        ("2026-03-02T01:00:00+02:00", TimeRange(datetime(2026, 3, 1, 23, tzinfo=UTC))),
        ("2026-03-02T01:00:00 02:00", TimeRange(datetime(2026, 3, 1, 23, tzinfo=UTC))),
        ("2026-03-02T24:00", TimeRange(datetime(2026, 3, 3, tzinfo=UTC))),
        ("2026-03-02T24:00:00Z", TimeRange(datetime(2026, 3, 3, tzinfo=UTC))),
        ("2026-12-31T24:00:00+01:00", TimeRange(datetime(2026, 12, 31, 23, tzinfo=UTC))),
        ("9999-12-31", TimeRange(LATEST, is_day=True)),
        ("9999-12-31T23:59:59-12:00", TimeRange(LATEST)),
        ("0001-01-01T00:00:00+12:00", TimeRange(EARLIEST)),
    ],
)
def test_times_are_parsed(text: str, expected: TimeRange) -> None:
    assert read_time(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "garbage",
            "2026-02-30",
            "2026-13-01",
            "2026-00-10",
            "2026-03",
            "2026",
            "1772409600",
            "1772409600000",
            "02.03.2026",
        ),
        *(
            "03/02/2026",
            "2026-03-02T25:00",
            "2026-03-02T24:30",
            "2026-03-02T15:04:00+99:00",
            "2026-0302",
            "2026031",
            "h",
            "-h",
            "2x",
        ),
        *(
            "last",
            "last week",
            "last somewhen",
            "1_0h",
            "٣h",
            "\uff12\uff10\uff12\uff16-03-02",
            "2026-03-02T",
            "T10:00",
            "0000-00-00",
            "\x00",
            "yester day",
            "-500ms",
            "5ss",
            "last 5 hs",
        ),
    ],
)
def test_invalid_times_are_refused(text: str) -> None:
    with pytest.raises(NotUsableError, match="is not a time or a date, such as"):
        read_time(text, NOW)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        found = read_time(text, NOW)
    except NotUsableError:
        return
    assert EARLIEST <= found.at <= LATEST


@given(st.floats(3e7, 7e9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)), st.integers(-14, 14))
def test_every_iso_time_is_parsed(moment: datetime, hours: int) -> None:
    at = moment.astimezone(timezone(timedelta(hours=hours)))
    assert read_time(at.isoformat()).at == at
    assert read_time(TimeRange(at.astimezone(UTC)).text).at == at


def test_relative_times_need_the_current_time() -> None:
    for text in ("today", "-2h", "monday"):
        with pytest.raises(NotUsableError):
            read_time(text)


def test_days_and_times_without_an_offset_use_the_time_zone_of_now() -> None:
    zone = timezone(timedelta(hours=2))
    now = datetime(2026, 3, 5, 1, tzinfo=zone)
    assert read_time("today", now) == TimeRange(datetime(2026, 3, 5, tzinfo=zone), is_day=True)
    assert read_time("2026-03-04", now).at == datetime(2026, 3, 3, 22, tzinfo=UTC)
    assert read_time("2026-03-04T12:00", now).at == datetime(2026, 3, 4, 10, tzinfo=UTC)
    assert read_time("2026-03-04T12:00Z", now).at == datetime(2026, 3, 4, 12, tzinfo=UTC)
    assert read_time("2026-03-04T12:00", now).text == "2026-03-04T10:00:00Z"


def test_a_day_on_which_clocks_change_has_its_real_length() -> None:
    now = datetime(2026, 3, 30, 9, tzinfo=ZoneInfo("Europe/Berlin"))
    query = parse_query([("q[created_at_gteq]", "yesterday"), ("q[created_at_lteq]", "yesterday")], now)
    times = [one.values[0] for one in query.conditions if isinstance(one, Condition)]
    assert times == [datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC)], "23 hours"
    assert read_time("-12h", now).at == datetime(2026, 3, 29, 19, tzinfo=UTC)


def test_a_day_includes_its_end() -> None:
    for text in ("20260301", "2026-03-01", "last sunday"):
        query = parse_query([("q[created_at_lteq]", text)], NOW)
        assert query == AttemptQuery((Condition("created_at", Predicate.LT, (datetime(2026, 3, 2, tzinfo=UTC),)),))
    assert parse_query([("q[created_at_gteq]", "-2h")], NOW).conditions == (
        Condition("created_at", Predicate.GTEQ, (NOW - timedelta(hours=2),)),
    )


def test_a_moment_is_formatted_as_it_was_meant() -> None:
    assert [TimeRange(NOW).text, day(3, 4).text] == ["2026-03-04T15:30:45.123000Z", "2026-03-04"]
