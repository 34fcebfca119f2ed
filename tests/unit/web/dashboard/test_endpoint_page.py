"""The page of an endpoint, and test events sent from it."""

from __future__ import annotations

from datetime import timedelta

from pipeline.store.errors import StoreUnavailableError
from pipeline.store.reports.endpoint_days import LastFailure
from pipeline.store.reports.recent import EndpointStats, IntervalCounts
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.health import HealthFact, HealthRecord
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import NOW, Service

HOUR = timedelta(hours=1)


async def test_health_and_settings_are_shown(service: Service, admin: Visitor) -> None:
    identifier = await service.create(
        description="The ERP",
        filters={"channel": "spree"},
        token="secret-token",
        headers={"X-Tenant": "acme"},
        max_per_second=1200,
    )
    failure = LastFailure(77, NOW - timedelta(minutes=5), 503, None, "The endpoint returned 503.")
    buckets = tuple(IntervalCounts(NOW - (24 - number) * HOUR, 10, 1 if number == 3 else 0) for number in range(24))
    service.reports.stats = EndpointStats(buckets, 2, (12.4, 90.0, 1500.0), failure)

    seen = await admin.go(f"/webhooks/endpoints/{identifier}")

    for part in ("http://127.0.0.1/hooks", "active", "The ERP", "99.6%", "240 of 241", "12 ms", "p95: 90 ms, p99: 1.5 s"):
        assert part in seen.text, part
    for part in ("5 min ago", "The endpoint returned 503.", 'data.channel == "spree"', "1,200", "set (never shown)", "x-tenant"):
        assert part in seen.text, part
    assert "2 not sent" in seen.text
    assert 'href="/webhooks/attempts/77"' in seen.html
    assert f'href="/webhooks/attempts?q%5Bendpoint_id_eq%5D={identifier}"' in seen.html
    for hidden in ("secret-token", "acme", "whsec_"):
        assert hidden not in seen.html


async def test_a_failing_endpoint_shows_when_it_will_be_disabled(service: Service, admin: Visitor) -> None:
    identifier = await service.create()
    since, told = NOW - 2 * HOUR, ("failing", "50")
    service.learn(
        HealthRecord(endpoint_id=identifier, endpoint_version=1, fact=HealthFact.FAILING, at=NOW, since=since, told=told)
    )

    seen = await admin.go(f"/webhooks/endpoints/{identifier}")

    assert (
        "This endpoint started failing 2 h ago , and no attempt has succeeded since. If none succeeds, it will be disabled in 4 days ."
        in seen.text
    )
    assert "Its owner was notified: endpoint.failing, endpoint.will_be_disabled (50%)." in seen.text


async def test_settings_are_shown_without_clickhouse(service: Service, admin: Visitor) -> None:
    identifier = await service.create()
    service.attempts.error = StoreUnavailableError("ClickHouse does not answer.")
    seen = await admin.go(f"/webhooks/endpoints/{identifier}")
    assert (seen.status, "Statistics are unavailable right now." in seen.text) == (200, True)
    assert "Signing secret" in seen.text


async def test_a_disabled_endpoint_shows_why(service: Service, admin: Visitor) -> None:
    identifier = await service.create()
    service.learn(
        HealthRecord(
            endpoint_id=identifier,
            fact=HealthFact.DISABLED,
            endpoint_version=1,
            at=NOW - HOUR,
            detail="The endpoint returned 410 (Gone).",
        )
    )
    seen = await admin.go(f"/webhooks/endpoints/{identifier}")
    assert "This endpoint was disabled 1 h ago and receives nothing: The endpoint returned 410 (Gone)." in seen.text
    assert "disabled" in (await admin.go("/webhooks/endpoints")).text


async def test_an_unknown_endpoint_is_not_found(admin: Visitor) -> None:
    for path in ("/webhooks/endpoints/99", "/webhooks/endpoints/abc", "/webhooks/endpoints/99/edit"):
        seen = await admin.go(path)
        assert (seen.status, "could not be found" in seen.text) == (404, True)


async def test_a_test_event(service: Service, visitor: Visitor) -> None:
    identifier = await service.create()
    await visitor.log_in(await service.key(Access.OPERATOR))
    page = f"/webhooks/endpoints/{identifier}"
    await visitor.go(page)

    seen = await visitor.send(f"{page}/test", {"event_name": "shipment_shipped"})

    assert seen.path == page
    assert "Test acknowledged: shipment_shipped returned" in seen.text
    assert 'href="/webhooks/attempts/' in seen.html
    assert [entry.detail for entry in service.kafka.audits if entry.action is AuditAction.TEST] == ["shipment_shipped"]
    assert "Test acknowledged" not in (await visitor.go(page)).text


async def test_a_test_event_of_an_unknown_type(service: Service, admin: Visitor) -> None:
    page = f"/webhooks/endpoints/{await service.create()}"
    await admin.go(page)
    seen = await admin.send(f"{page}/test", {"event_name": "nonsense"})
    assert (seen.status, "event_name must be one of" in seen.text) == (422, True)


async def test_bidirectional_characters_in_a_name_are_visible_and_kept_by_the_form(service: Service, admin: Visitor) -> None:
    name = "Evil \u202egnp.exe \u200d"
    endpoint = await service.create(description=name)
    for page in ("", f"/endpoints/{endpoint}", "/endpoints", "/endpoints?find=evil", f"/endpoints/{endpoint}/pause"):
        seen = await admin.go(f"/webhooks{page}")
        assert ("Evil \\u202egnp.exe" in seen.text, "\u202e" in seen.html) == (True, False), page
    form = await admin.go(f"/webhooks/endpoints/{endpoint}/edit")
    assert ("description", name.strip()) in [(key, value.strip()) for one in form.forms for key, value in one.fields]


async def test_a_trailing_slash_redirects_to_the_page(service: Service, admin: Visitor) -> None:
    endpoint = await service.create()
    for path in ("/webhooks/endpoints", f"/webhooks/endpoints/{endpoint}", "/webhooks/endpoints?find=x"):
        bare, sign, query = path.partition("?")
        seen = await admin.go(f"{bare}/{sign}{query}")
        assert (seen.status, seen.path) == (200, path)
    assert (await admin.go("/webhooks/nothing/")).status == 404
