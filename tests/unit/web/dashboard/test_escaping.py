"""Text from others is text on every page: never markup, never script."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from pipeline.store.errors import StoreUnavailableError
from pipeline.store.reports.endpoint_days import EndpointDay, LastFailure
from pipeline.store.reports.pipeline_overview import WaitingDelivery
from pipeline.store.reports.recent import EndpointStats, IntervalCounts
from schemas.api_key import Access
from schemas.health import HealthFact, HealthRecord
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import NOW, Service

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}"
MARKUP = ("<script>alert", "<img src=x")


def check(seen_html: str, where: str) -> None:
    assert "alert(1)" in seen_html, where  # it is there, and escaped
    for bit in MARKUP:
        assert bit not in seen_html, (where, bit)
    assert "{{7*7}}" in seen_html, where


async def test_every_page(service: Service, visitor: Visitor) -> None:
    url = "http://127.0.0.1/?a=" + EVIL.replace(" ", "%20")
    identifier = await service.create(url, description=EVIL, filters={EVIL: EVIL})
    failure = LastFailure(7, NOW - timedelta(minutes=3), None, EVIL, EVIL)
    service.reports.days = {identifier: EndpointDay([(1, 1)] * 24, failure)}
    service.reports.stats = EndpointStats(
        (IntervalCounts(NOW, 1, 1),) * 24, 0, (1.0, 2.0, 3.0), LastFailure(7, NOW - timedelta(minutes=3), None, EVIL, EVIL)
    )
    waiting = WaitingDelivery(7, EVIL, EVIL, identifier, NOW, None)
    service.reports.hour = dataclasses.replace(service.reports.hour, waiting=1, oldest_waiting=waiting)
    service.learn(
        HealthRecord(endpoint_id=identifier, fact=HealthFact.DISABLED, endpoint_version=1, at=NOW, detail=EVIL),
    )
    _, key = await service.ring.create(service.kafka, name=EVIL, role=Access.ADMIN, created_by=EVIL, at=NOW)
    (record,) = service.ring.valid()
    one = f"/webhooks/endpoints/{identifier}"
    await visitor.log_in(key)
    for path in (
        "/webhooks",
        "/webhooks/live",
        "/webhooks/endpoints",
        one,
        f"{one}/edit",
        f"{one}/delete",
        f"{one}/rotate",
        "/webhooks/keys",
        f"/webhooks/keys/{record.id}/revoke",
    ):
        seen = await visitor.go(path)
        assert seen.status == 200, path
        check(seen.html, path)


async def test_submitted_input_is_shown_as_text(service: Service, admin: Visitor) -> None:
    await admin.go("/webhooks/endpoints/new")
    seen = await admin.send(
        "/webhooks/endpoints",
        {"target_url": EVIL, "description": EVIL, "filters": EVIL, "max_per_second": EVIL, "events": [EVIL]},
    )
    assert seen.status == 422
    check(seen.html, "new")
    await admin.go("/webhooks/keys")
    seen = await admin.send("/webhooks/keys", {"name": EVIL + "a" * 100, "role": EVIL})
    assert seen.status == 422
    check(seen.html, "keys")
    seen = await admin.go("/webhooks/endpoints", params={"q[target_url_cont]": EVIL, f"q[{EVIL}]": "1"})
    check(seen.html, "filter")
    service.attempts.error = StoreUnavailableError(EVIL)
    check((await admin.go("/webhooks/endpoints")).html, "problem")


async def test_the_login_shows_the_text_of_a_link_as_text(visitor: Visitor) -> None:
    seen = await visitor.go("/webhooks/login", params={"next": EVIL})
    check(seen.html, "login")
