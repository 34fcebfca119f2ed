"""How values are formatted for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.web.dashboard.text_filters import about, ago, iso, milliseconds, number, percent, span, stamp, words

NOW = datetime(2026, 3, 2, 15, 4, 0, 512_000, UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "just now"),
        (-0.4, "just now"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (7200, "2 h ago"),
        (86_400, "1 day ago"),
        (3 * 86_400, "3 days ago"),
        (-90, "in 1 min"),
    ],
)
def test_elapsed_times(seconds: float, text: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_times_and_numbers() -> None:
    assert span(timedelta(milliseconds=250)) == "250 ms"
    assert stamp(NOW) == "2026-03-02 15:04:00 UTC"
    assert iso(NOW) == "2026-03-02T15:04:00.512Z"
    assert number(1234567) == "1,234,567"
    assert words("shipment_delivery_status_updated") == "Shipment delivery status updated"
    assert [milliseconds(value) for value in (None, 0.4, 12.4, 999.9, 1500.0)] == [
        "\N{EN DASH}",
        "0 ms",
        "12 ms",
        "1,000 ms",
        "1.5 s",
    ]


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "\N{EN DASH}"), (0.0, "0%"), (1.0, "100%"), (0.9999, "99.9%"), (0.00001, "0.1%"), (0.5, "50.0%"), (0.9512, "95.1%")],
)
def test_a_share_is_rounded_to_0_or_100_percent_only_if_exact(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_an_error_below_its_field_does_not_repeat_the_name() -> None:
    assert about("target_url must be a URL.", "target_url") == "Must be a URL."
    assert about("Choose one.", "events") == "Choose one."
