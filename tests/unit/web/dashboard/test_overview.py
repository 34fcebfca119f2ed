"""The overview."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from urllib.parse import parse_qsl, urlsplit

import pytest

from pipeline.core.circuit import CircuitState
from pipeline.store.errors import StoreBudgetError, StoreUnavailableError
from pipeline.store.reports.endpoint_days import EndpointDay
from pipeline.store.reports.pipeline_overview import MINUTES, OverviewMinute, PipelineOverview, WaitingDelivery
from schemas.health import HealthFact, HealthRecord
from tests.unit.delivery.delivery_case import answer
from tests.unit.sample_events import held_fact
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import NOW, Service

MINUTE = timedelta(minutes=1)
HOME = "/webhooks"


async def test_the_last_hour(service: Service, admin: Visitor) -> None:
    well, down = await service.create("http://127.0.0.1/well"), await service.create("http://127.0.0.1/down")
    service.learn(
        HealthRecord(endpoint_id=down, fact=HealthFact.FAILING, endpoint_version=1, at=NOW, since=NOW - 30 * MINUTE),
    )
    service.reports.days = {well: EndpointDay([(0, 0)] * 23 + [(500, 0)]), down: EndpointDay([(0, 0)] * 23 + [(0, 20)])}
    minutes = tuple(OverviewMinute(NOW - (MINUTES - number) * MINUTE, 30, 20, 1) for number in range(MINUTES))
    waiting = WaitingDelivery(77, "evt-1", "order_completed", down, NOW - 2 * timedelta(hours=1), NOW + MINUTE)
    service.reports.hour = PipelineOverview(minutes, (120.0, 900.0, 65_000.0), (12.0, 80.0, 1500.0), 4, waiting)

    seen = await admin.go(HOME)

    parts = (
        "1,800",
        "1,200",
        "95.2%",
        "120 ms",
        "p95: 900 ms, p99: 65.0 s",
        "12 ms",
        "2 h ago",
        "4 deliveries are waiting for a retry",
    )
    for part in (*parts, "Failing for 30 min"):
        assert part in seen.text, part
    assert 'href="/webhooks/attempts/77"' in seen.html
    failing = seen.text.partition("Needs attention")[2].partition("Events in")[0]
    assert ("127.0.0.1/down" in failing, "127.0.0.1/well" in failing) == (True, False)


async def test_one_attempt_and_one_event_are_counted_in_the_singular(service: Service, admin: Visitor) -> None:
    earlier = tuple(OverviewMinute(NOW - (MINUTES - number) * MINUTE, 0, 0, 0) for number in range(MINUTES - 1))
    service.reports.hour = PipelineOverview((*earlier, OverviewMinute(NOW - MINUTE, 1, 0, 1)), None, None, 0, None)

    seen = await admin.go(HOME)

    assert "1 attempt failed" in seen.text
    assert "1 event, 0 delivered, 1 failed" in seen.html


async def test_figures_link_to_the_attempts_that_they_count(service: Service, admin: Visitor) -> None:
    """Neither tests nor deliveries that were due but not attempted."""
    minutes = tuple(OverviewMinute(NOW - (MINUTES - number) * MINUTE, 30, 20, 1) for number in range(MINUTES))
    service.reports.hour = PipelineOverview(minutes, None, None, 0, None)

    seen = await admin.go(HOME)

    searches = [
        parse_qsl(urlsplit(unescape(href)).query) for href in re.findall(r'href="(/webhooks/attempts\?[^"]*)"', seen.html)
    ]
    within = [one for one in searches if any(key == "q[created_at_lteq]" and "T" in value for key, value in one)]
    assert len(within) == 3 + MINUTES
    left_out = [("q[trigger_not_eq]", "test"), ("q[outcome_not_in][]", "discarded"), ("q[outcome_not_in][]", "expired")]
    assert all(one[-3:] == left_out for one in within)


async def test_a_part_of_the_page_is_polled(service: Service, admin: Visitor) -> None:
    await service.create()
    page, part = await admin.go(HOME), await admin.go("/webhooks/live")
    assert 'data-live="/webhooks/live"' in page.html
    assert "<html" not in part.html
    assert part.html.strip() in page.html


async def test_without_clickhouse_it_says_what_fails(service: Service, admin: Visitor) -> None:
    down = await service.create("http://127.0.0.1/down")
    until = NOW + MINUTE
    circuit = HealthRecord(
        endpoint_id=down, fact=HealthFact.CIRCUIT, endpoint_version=1, at=NOW, circuit=CircuitState.OPEN, until=until
    )
    service.learn(circuit)
    service.attempts.error = StoreUnavailableError("ClickHouse does not answer.")
    seen = await admin.go(HOME)
    assert (seen.status, "Statistics are unavailable right now" in seen.text) == (200, True)
    assert "on hold: endpoint is down" in seen.text


async def test_when_all_is_well_it_says_so(admin: Visitor) -> None:
    seen = await admin.go(HOME)
    assert "Nothing. All active endpoints are acknowledging their notifications, and there are no dead letters." in seen.text
    assert "No endpoints yet." in seen.text


async def test_an_unverified_endpoint_needs_attention(service: Service, admin: Visitor) -> None:
    service.sender.exchange = answer(404)
    asked = await service.create("http://127.0.0.1/asked", verification="signed_event")
    service.learn(held_fact(asked, 3))
    seen = await admin.go(HOME)
    needs = seen.text.partition("Needs attention")[2].partition("The last hour")[0]
    for part in ("127.0.0.1/asked", "404", "3 held.", "unverified"):
        assert part in needs, part
    assert "Nothing. All active endpoints" not in seen.text


async def test_dead_letters_that_cannot_be_counted_are_not_shown_as_none(
    service: Service, admin: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def count() -> int:
        raise StoreBudgetError("The count needs too much.")

    monkeypatch.setattr(service.reports, "count_unrepaired_dead_letters", count)
    seen = await admin.go(HOME)
    assert ("all events could be used" in seen.text, "The count needs too much." in seen.text) == (False, True)


async def test_own_faults_are_shown_while_they_last(service: Service, admin: Visitor) -> None:
    warning: list[str | None] = ["485 deliveries were parked: too many open files <1024>"]
    service.health.warn("own faults", lambda: warning[0])
    for page in (HOME, "/webhooks/live"):
        assert "485 deliveries were parked: too many open files <1024>" in (await admin.go(page)).text
    warning[0] = None
    assert "485 deliveries" not in (await admin.go(HOME)).text
