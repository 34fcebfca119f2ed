"""Times in the reader's own time zone, which is named and remembered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pytest

from pipeline.web.dashboard.text_filters import both, clock, minute, outcome, stamp, utc
from pipeline.web.dashboard.time_zone import read_in, zone_names, zone_of
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import API_KEY, NOW, Service

SUMMER = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)


def test_times_are_shown_in_the_zone() -> None:
    assert (stamp(NOW), both(NOW), clock(NOW, NOW)) == ("2026-03-02 15:04:00 UTC", "2026-03-02 15:04:00 UTC", "15:04")
    with read_in("Europe/Berlin"):
        assert minute(NOW) == "16:04 CET"
        assert (stamp(NOW), utc(NOW)) == ("2026-03-02 16:04:00 CET", "2026-03-02 15:04:00 UTC")
        assert both(SUMMER) == "2026-07-02 00:30:00 CEST (2026-07-01 22:30:00 UTC)"
        # Another day in that zone than in UTC.
        assert (clock(SUMMER, SUMMER), clock(NOW, SUMMER)) == ("00:30", "2 Mar, 16:04")
        assert clock(SUMMER - timedelta(hours=1), SUMMER) == "23:30", "last night"
        assert clock(datetime(2025, 12, 31, 23, 30, tzinfo=UTC), NOW) == "1 Jan, 00:30"
        assert clock(datetime(2024, 5, 1, tzinfo=UTC), NOW) == "1 May 2024, 02:00"
    with read_in("America/Sao_Paulo"):
        assert stamp(NOW).endswith(" UTC-03")
    for nothing in (None, "", "Mars/Olympus", "../../etc/passwd", "x" * 100):
        with read_in(nothing):
            assert stamp(NOW).endswith(" UTC")


def test_only_known_zones_are_accepted() -> None:
    assert {"UTC", "Europe/Berlin", "Asia/Kolkata"} <= zone_names()
    assert zone_of("UTC") is UTC
    assert zone_of("/etc/localtime") is None


def test_outcomes_in_plain_words() -> None:
    assert [outcome(one) for one in ("repeated", "exhausted", "delivered", "discarded", "expired", "of_tomorrow")] == [
        *("will retry", "gave up", "delivered", "not sent", "waited too long", "of tomorrow"),
    ]


@pytest.mark.parametrize("given", ["Europe/Berlin", "europe/berlin", " Europe/Berlin "])
async def test_the_chosen_zone_is_remembered(service: Service, admin: Visitor, given: str) -> None:
    service.attempts.rows = (attempt_row(),)
    seen = await admin.go("/webhooks/attempts?q[state_eq]=failed")
    assert "2026-03-02 15:05:00 UTC" in seen.text
    assert 'action="/webhooks/time-zone" data-zone hidden' in seen.html
    await admin.go("/webhooks/time-zone?next=/webhooks/attempts%3Fq%5Bstate_eq%5D%3Dfailed")
    seen = await admin.send("/webhooks/time-zone", {"zone": given})
    assert unquote(seen.path) == "/webhooks/attempts?q[state_eq]=failed"
    assert "Times are in Europe/Berlin ." in seen.text
    assert 'title="2026-03-02 15:05:00 UTC" class="nowrap">2026-03-02 16:05:00 CET</time>' in seen.html
    assert "data-zone hidden" not in seen.html, "it is suggested once"


@pytest.mark.parametrize(
    ("brought", "shown"), [("Europe/Berlin", "Europe/Berlin"), ("UTC", "UTC"), ("", "UTC"), ("Mars/Olympus", "UTC")]
)
async def test_a_login_sets_the_zone_of_the_browser(service: Service, visitor: Visitor, brought: str, shown: str) -> None:
    await visitor.go("/webhooks/login")
    seen = await visitor.send("/webhooks/login", {"key": API_KEY, "zone": brought})
    assert f"Times are in {shown} ." in seen.text
    assert ("data-zone hidden" in seen.html) == (zone_of(brought) is None)


async def test_a_login_keeps_a_chosen_zone(service: Service, admin: Visitor) -> None:
    await admin.go("/webhooks/time-zone")
    await admin.send("/webhooks/time-zone", {"zone": "Asia/Kolkata"})
    await admin.send("/webhooks/logout", {})
    seen = await admin.send("/webhooks/login", {"key": API_KEY, "zone": "Europe/Berlin"})
    assert "Times are in Asia/Kolkata ." in seen.text


async def test_unknown_zones_and_redirects_to_other_sites_are_refused(service: Service, admin: Visitor) -> None:
    await admin.go("/webhooks/time-zone?next=https://evil.example.com/")
    seen = await admin.send("/webhooks/time-zone", {"zone": "Mars/Olympus"})
    assert (seen.status, "This time zone does not exist." in seen.text) == (422, True)
    assert 'value="Mars/Olympus"' in seen.html
    seen = await admin.send("/webhooks/time-zone", {"zone": "Asia/Kolkata"})
    assert (seen.status, seen.path) == (200, "/webhooks")
