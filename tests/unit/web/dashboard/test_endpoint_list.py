"""The list of endpoints."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qsl

from pipeline.endpoints.registry import state_of
from pipeline.store.errors import StoreUnavailableError
from pipeline.store.reports.endpoint_days import EndpointDay, LastFailure
from schemas.api_key import Access
from schemas.event import EventType
from schemas.health import HealthFact, HealthRecord
from tests.unit.delivery.delivery_case import answer
from tests.unit.sample_events import held_fact
from tests.unit.web.dashboard.visitor import Seen, Visitor
from tests.unit.web.service import NOW, Service

LIST = "/webhooks/endpoints"


async def test_each_endpoint_is_shown_with_its_last_day(service: Service, admin: Visitor) -> None:
    identifier = await service.create("http://127.0.0.1/busy", events=list(EventType), description="The ERP")
    await service.create("http://127.0.0.1/idle", active=False)
    failure = LastFailure(7, NOW - timedelta(minutes=3), 503, None, "The endpoint returned 503.")
    service.reports.days = {identifier: EndpointDay([(0, 0)] * 22 + [(90, 10), (1000, 1)], failure)}

    seen = await admin.go(LIST)

    rows = seen.text.partition("Last failure")[2]
    idle, busy = rows[: rows.index("The ERP")], rows[rows.index("The ERP") :]
    for part in ("The ERP 127.0.0.1/busy", "active", "All types", "99.0%", "of 1,101", "3 min ago", "503"):
        assert part in busy, part
    for part in ("127.0.0.1/idle", "paused", "Order completed", "none"):
        assert part in idle, part
    assert 'href="/webhooks/attempts/7"' in seen.html
    assert 'aria-label="Attempts by hour: 1,090 delivered, 11 failed"' in seen.html
    assert f'href="/webhooks/endpoints/{identifier}"' in seen.html


async def test_endpoints_are_shown_without_clickhouse(service: Service, admin: Visitor) -> None:
    await service.create()
    service.attempts.error = StoreUnavailableError("ClickHouse at ch:8123 does not answer.")
    seen = await admin.go(LIST)
    assert seen.status == 200
    assert "Statistics are unavailable right now." in seen.text
    assert "ClickHouse at ch:8123 does not answer." in seen.text
    assert "127.0.0.1/hooks" in seen.text


async def test_an_empty_list_says_what_to_do(service: Service, visitor: Visitor) -> None:
    await visitor.log_in(await service.key(Access.VIEWER))
    seen = await visitor.go(LIST)
    assert "No endpoints yet" in seen.text
    assert "New endpoint" not in seen.text


async def test_the_list_can_be_filtered(service: Service, admin: Visitor) -> None:
    for name in ("one", "two"):
        await service.create(f"http://127.0.0.1/{name}")
    seen = await admin.go(f"{LIST}?q[target_url_cont]=TWO&q[colour_eq]=red")
    assert ("127.0.0.1/two" in seen.text, "127.0.0.1/one" in seen.text) == (True, False)
    assert "q[colour_eq]" in seen.text
    assert "No endpoints match." in (await admin.go(f"{LIST}?q[target_url_cont]=three")).text


async def test_the_list_is_paginated(service: Service, admin: Visitor) -> None:
    for number in range(3):
        await service.create(f"http://127.0.0.1/{number}")
    seen = await admin.go(f"{LIST}?per_page=2&page=2")
    assert ("127.0.0.1/2" in seen.text, "127.0.0.1/0" in seen.text) == (True, False)
    assert "3 endpoints, page 2 of 2" in seen.text
    beyond = await admin.go(f"{LIST}?per_page=2&page=1000000&sort=name")
    assert "There is no page 1,000,000 Go to the last page, 2" in beyond.text
    assert 'href="?per_page=2&amp;sort=name&amp;page=2"' in beyond.html
    for part in ("No endpoints match", "Previous", "page 1,000,000 of", "Selected endpoints"):
        assert part not in beyond.text, part


async def test_every_page_of_an_empty_list_says_so(admin: Visitor) -> None:
    assert "No endpoints yet" in (await admin.go(f"{LIST}?page=3")).text


async def several(service: Service) -> list[int]:
    """Three endpoints, the last one paused. Returns their ids."""
    return [
        await service.create(f"http://127.0.0.1/{name}", description=description, active=name != "off")
        for name, description in (("zeta", "Zeta mails"), ("alpha/hooks/orders", "Alpha"), ("off", "Mails, switched off"))
    ]


async def test_names_and_urls_are_searched(service: Service, admin: Visitor) -> None:
    await several(service)
    for find, names in (
        ("MAILS", ["Mails, switched off", "Zeta mails"]),
        ("orders alpha", ["Alpha"]),
        ("none", []),
    ):
        seen = await admin.go(LIST, params={"find": find})
        assert [name for name in ("Alpha", "Mails, switched off", "Zeta mails") if f">{name}</a>" in seen.html] == names, find
    assert "No endpoints match." in seen.text


async def test_states_are_counted_and_filter_the_list(service: Service, admin: Visitor) -> None:
    await several(service)
    seen = await admin.go(f"{LIST}?find=mails")
    assert "All 2 Paused 1 Active 1" in seen.text
    assert 'href="?find=mails&amp;state=paused"' in seen.html
    seen = await admin.go(f"{LIST}?state=paused")
    assert (">Mails, switched off</a>" in seen.html, ">Alpha</a>" in seen.html) == (True, False)


async def test_sorting(service: Service, admin: Visitor) -> None:
    zeta, *_ = await several(service)
    service.reports.days = {zeta: EndpointDay([(0, 0)] * 23 + [(5, 0)])}
    for sort, names in (
        ("", ["Mails, switched off", "Alpha", "Zeta mails"]),
        ("name", ["Alpha", "Mails, switched off", "Zeta mails"]),
        ("busiest", ["Zeta mails", "Alpha", "Mails, switched off"]),
        ("newest", ["Mails, switched off", "Alpha", "Zeta mails"]),
    ):
        seen = await admin.go(LIST, params={"sort": sort} if sort else {})
        assert sorted(names, key=lambda name: seen.html.index(f">{name}</a>")) == names, sort


async def test_a_page_has_fifty_endpoints(service: Service, admin: Visitor) -> None:
    for number in range(52):
        await service.create(f"http://127.0.0.1/{number}")
    seen = await admin.go(LIST)
    assert seen.html.count('name="ids"') == 50
    assert "52 endpoints, page 1 of 2" in seen.text


async def test_several_are_paused_and_resumed(service: Service, admin: Visitor) -> None:
    zeta, alpha, off = await several(service)
    await admin.go(LIST)
    asked = await admin.send(f"{LIST}/several/change", {"ids": [str(zeta), str(alpha), str(off), "99", "x"], "do": "pause"})
    for part in (
        "Pause 2 endpoints?",
        "Zeta mails",
        "After 14 days, held deliveries expire",
        "1 of the selected endpoints is already paused or disabled",
    ):
        assert part in asked.text, part
    assert [one.id for one in service.kafka.registry.all() if one.active] == [zeta, alpha], "nothing is done yet"
    seen = await admin.send(f"{LIST}/several/change")
    assert (seen.path, "2 endpoints are paused." in seen.text) == (LIST, True)
    assert not any(endpoint.active for endpoint in service.kafka.registry.all())

    service.learn(
        HealthRecord(
            endpoint_id=alpha, fact=HealthFact.HELD, endpoint_version=1, at=NOW, partition=0, held=1297, counted=1297, since=NOW
        )
    )
    asked = await admin.send(f"{LIST}/several/change", {"ids": [str(zeta), str(alpha)], "do": "resume"})
    for part in ("Resume 2 endpoints?", "1,297 held deliveries are sent immediately.", "1,297 held"):
        assert part in asked.text, part
    seen = await admin.send(f"{LIST}/several/change")
    assert "2 endpoints are resumed." in seen.text
    assert [one.id for one in service.kafka.registry.all() if one.active] == [zeta, alpha]
    asked = await admin.send(f"{LIST}/several/change", {"ids": [str(zeta)], "do": "resume"})
    assert "Nothing to do" in asked.text
    assert "They receive nothing until" not in asked.text
    assert (
        "Select endpoints in the list first"
        in (await admin.post(f"{LIST}/several/change", [("csrf", csrf(asked)), ("do", "pause")])).text
    )


async def test_an_unverified_endpoint_can_be_paused_and_is_not_said_to_receive(service: Service, admin: Visitor) -> None:
    service.sender.exchange = answer(404)
    asked = await service.create("http://127.0.0.1/asked", verification="signed_event")
    service.learn(held_fact(asked, 3))
    await admin.go(LIST)
    seen = await admin.send(f"{LIST}/several/change", {"ids": [str(asked)], "do": "resume"})
    assert "1 of the selected endpoints is neither paused nor disabled, so nothing changes for it." in seen.text
    await admin.go(LIST)
    seen = await admin.send(f"{LIST}/several/change", {"ids": [str(asked)], "do": "pause"})
    assert "Pause 1 endpoint?" in seen.text
    assert "1 endpoint is paused." in (await admin.send(f"{LIST}/several/change")).text
    assert {one.id: state_of(one) for one in service.kafka.registry.all()} == {asked: "paused"}

    seen = await admin.send(f"{LIST}/several/change", {"ids": [str(asked)], "do": "resume"})
    assert "1 of them is not verified: nothing is sent until it is." in seen.text
    for part in ("sent immediately", "They receive new events"):
        assert part not in seen.text, part
    await admin.go(f"{LIST}/{asked}")
    seen = await admin.send(f"{LIST}/{asked}/resume")
    assert "It receives nothing until it is verified." in seen.text
    assert "receives webhooks again" not in seen.text


async def test_ordered_deliveries_are_sent_on_resume(service: Service, admin: Visitor) -> None:
    ordered = await service.create("http://127.0.0.1/ordered", ordered=True)
    await admin.go(LIST)
    await admin.send(f"{LIST}/several/change", {"ids": [str(ordered)], "do": "pause"})
    await admin.send(f"{LIST}/several/change")
    service.learn(
        HealthRecord(
            endpoint_id=ordered,
            endpoint_version=1,
            fact=HealthFact.ORDERED,
            at=NOW,
            since=NOW - timedelta(hours=1),
            partition=0,
            held=5,
            count=2,
            event_id="evt-1",
            detail="oms.orders/0/R1",
            reason="endpoint_not_active",
        )
    )
    seen = await admin.go(f"{LIST}/{ordered}")
    assert "5 deliveries are waiting in order." in seen.text
    assert "Nothing is held yet" not in seen.text
    await admin.go(LIST)
    seen = await admin.send(f"{LIST}/several/change", {"ids": [str(ordered)], "do": "resume"})
    assert "5 held deliveries are sent immediately." in seen.text
    await admin.go(f"{LIST}/{ordered}")
    assert "5 held deliveries are sent now." in (await admin.send(f"{LIST}/{ordered}/resume")).text


async def test_several_are_disabled(service: Service, admin: Visitor) -> None:
    zeta, alpha, off = await several(service)
    service.learn(
        HealthRecord(endpoint_id=off, fact=HealthFact.HELD, endpoint_version=1, at=NOW, partition=0, held=3, counted=3, since=NOW)
    )
    await admin.go(LIST)
    asked = await admin.send(f"{LIST}/several/change", {"ids": [str(zeta), str(off)], "do": "disable"})
    for part in (
        "Disable 2 endpoints?",
        "Lists show that they are disabled",
        "3 deliveries are already held for them",
        "held deliveries expire",
    ):
        assert part in asked.text, part
    seen = await admin.send(f"{LIST}/several/change")
    assert "2 endpoints are disabled." in seen.text
    found = {one.id: state_of(one) for one in service.kafka.registry.all()}
    assert found == {zeta: "disabled", alpha: "active", off: "disabled"}
    await admin.go(LIST)
    one = await admin.send(f"{LIST}/several/change", {"ids": [str(alpha)], "do": "disable"})
    assert "It receives nothing until you resume it. Lists show that it is disabled" in one.text
    record = service.kafka.changes[-1]
    assert (record.active, record.disabled_at) == (False, NOW)

    seen = await admin.go(f"{LIST}/{zeta}")
    assert "a key in the settings" in seen.text
    assert "disabled this endpoint" in seen.text
    assert "last 24 hours Nothing" in (await admin.go("/webhooks")).text, "something done on purpose needs no attention"
    await admin.go(f"{LIST}/{zeta}")
    await admin.send(f"{LIST}/{zeta}/resume")
    assert (service.kafka.changes[-1].active, service.kafka.changes[-1].disabled_at) == (True, None)

    asked = await admin.send(f"{LIST}/several/change", {"do": "disable"})
    assert "Disable 1 endpoint?" in asked.text
    assert (await admin.send(f"{LIST}/several/change")).path == f"{LIST}/{zeta}", "back on the page where it was pressed"


async def test_failed_deliveries_of_several_endpoints_are_resent_after_a_preview(service: Service, admin: Visitor) -> None:
    zeta, alpha, _ = await several(service)
    await admin.go(LIST)
    seen = await admin.send(f"{LIST}/several/change", {"ids": [str(zeta), str(alpha)], "do": "resend"})
    assert parse_qsl(seen.path.partition("?")[2]) == [
        ("q[endpoint_id_in][]", str(zeta)),
        ("q[endpoint_id_in][]", str(alpha)),
        ("q[state_eq]", "failed"),
        ("q[created_at_gteq]", "-24h"),
    ]
    assert "Nothing to resend" in seen.text


async def test_an_operator_cannot_pause(service: Service, visitor: Visitor) -> None:
    await service.create()
    await visitor.log_in(await service.key(Access.OPERATOR))
    seen = await visitor.go(LIST)
    assert "Pause" not in seen.text
    seen = await visitor.post(f"{LIST}/several/change", [("csrf", csrf(seen)), ("do", "pause"), ("ids", "1"), ("confirmed", "1")])
    assert (seen.status, service.kafka.registry.all()[0].active) == (403, True)
    seen = await visitor.go(LIST)
    seen = await visitor.post(f"{LIST}/several/change", [("csrf", csrf(seen)), ("do", "delete"), ("ids", "1")])
    assert (seen.status, "Choose an action" in seen.text) == (422, True)


def csrf(seen: Seen) -> str:
    return dict(seen.form("/webhooks/logout").fields)["csrf"]
