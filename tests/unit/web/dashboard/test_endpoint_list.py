"""The list of endpoints."""

from __future__ import annotations

from datetime import timedelta

from pipeline.store.endpoint_days import EndpointDay, Failure
from pipeline.store.errors import StoreUnavailableError
from schemas.api_key import Access
from schemas.event import EventType
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import NOW, Service

LIST = "/webhooks/endpoints"


async def test_each_endpoint_with_its_last_day(service: Service, admin: Visitor) -> None:
    identifier = await service.create("http://127.0.0.1/busy", events=list(EventType), description="The ERP")
    await service.create("http://127.0.0.1/idle", active=False)
    failure = Failure(7, NOW - timedelta(minutes=3), 503, None, "The endpoint answered 503.")
    service.reports.days = {identifier: EndpointDay([(0, 0)] * 22 + [(90, 10), (1000, 1)], failure)}

    seen = await admin.go(LIST)

    busy, idle = (seen.text[seen.text.index(f"http://127.0.0.1/{name}") :] for name in ("busy", "idle"))
    for part in ("The ERP", "active", "All of them", "99.0%", "of 1,101", "3 min ago", "503"):
        assert part in busy.removesuffix(idle), part
    for part in ("paused", "Order completed", "none"):
        assert part in idle, part
    assert 'aria-label="Attempts by hour: 1,090 succeeded, 11 failed"' in seen.html
    assert f'href="/webhooks/endpoints/{identifier}"' in seen.html


async def test_without_clickhouse_the_endpoints_are_shown(service: Service, admin: Visitor) -> None:
    await service.create()
    service.attempts.error = StoreUnavailableError("ClickHouse at ch:8123 does not answer.")
    seen = await admin.go(LIST)
    assert seen.status == 200
    assert "There are no figures at the moment." in seen.text
    assert "ClickHouse at ch:8123 does not answer." in seen.text
    assert "http://127.0.0.1/hooks" in seen.text


async def test_without_endpoints_it_says_what_to_do(service: Service, visitor: Visitor) -> None:
    await visitor.log_in(await service.key(Access.VIEWER))
    seen = await visitor.go(LIST)
    assert "No endpoint yet" in seen.text
    assert "New endpoint" not in seen.text


async def test_the_list_can_be_filtered(service: Service, admin: Visitor) -> None:
    for name in ("one", "two"):
        await service.create(f"http://127.0.0.1/{name}")
    seen = await admin.go(f"{LIST}?q[target_url_cont]=TWO&q[colour_eq]=red")
    assert ("127.0.0.1/two" in seen.text, "127.0.0.1/one" in seen.text) == (True, False)
    assert "q[colour_eq]" in seen.text
    assert "No endpoint fits." in (await admin.go(f"{LIST}?q[target_url_cont]=three")).text


async def test_the_list_has_pages(service: Service, admin: Visitor) -> None:
    for number in range(3):
        await service.create(f"http://127.0.0.1/{number}")
    seen = await admin.go(f"{LIST}?per_page=2&page=2")
    assert ("127.0.0.1/2" in seen.text, "127.0.0.1/0" in seen.text) == (True, False)
    assert "3 endpoints, page 2 of 2" in seen.text
