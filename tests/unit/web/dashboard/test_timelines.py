"""The pages of the timelines of orders, shipments, subscriptions and stock items."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from pipeline.core.search import Condition, Predicate
from pipeline.store.reports.timeline import EventRow, TimelineRecords, TimelineSubject
from pipeline.web.dashboard.text_filters import segment
from schemas.api_key import Access
from schemas.health import HealthFact, HealthRecord
from tests.unit.delivery.delivery_case import answer
from tests.unit.web.api.test_resend import detail
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.dashboard.visitor import Visitor
from tests.unit.web.service import NOW, Service
from tests.unit.web.test_resend_runs import until_idle

DELIVERED = {"state": "succeeded", "outcome": "delivered", "http_status_code": 202, "error": None}


@pytest.fixture
async def viewer(service: Service, visitor: Visitor) -> Visitor:
    assert (await visitor.log_in(await service.key(Access.VIEWER))).status == 200
    return visitor


@pytest.fixture
async def troubled(service: Service) -> Service:
    """The ERP (endpoint 1) did not get one of two notifications; the archive (endpoint 3) got its own."""
    await service.create(description="ERP")
    await service.create("http://127.0.0.1/archive", description="Archive")
    failed = attempt_row(id=11, event_id="evt_1", endpoint_id=1, outcome="exhausted", next_attempt_at=None)
    service.attempts.record = TimelineRecords(
        (
            EventRow("evt_1", "order_completed", NOW, NOW, "R/1", ("H1", "H2"), "S 1", (1, 3), 7, ("SKU-9",)),
            EventRow("evt_0", "order_cancelled", NOW - timedelta(days=1), NOW, "R/1", (), None, (1,)),
            EventRow("evt_x", "shipment_updated", NOW - timedelta(days=2), NOW, "R/1", (), None, ()),
        ),
        (
            failed,
            attempt_row(id=12, event_id="evt_0", endpoint_id=1, **DELIVERED),
            attempt_row(id=10, event_id="evt_0", endpoint_id=1),
            attempt_row(id=9, event_id="evt_1", endpoint_id=3, **DELIVERED),
        ),
        is_complete=True,
    )
    service.attempts.rows = (failed,)
    service.attempts.sent = {"evt_1": b"{}"}
    return service


async def test_the_timeline_of_an_order(troubled: Service, viewer: Visitor) -> None:
    seen = await viewer.go("/webhooks/orders/R%2F1")
    assert (await viewer.go("/webhooks/orders/%7BR%7D:%201")).status == 200

    assert troubled.attempts.timelines_requested == [(TimelineSubject.ORDER, "R/1"), (TimelineSubject.ORDER, "{R}: 1")]
    for part in (
        "Order R/1 ERP did not get 1 of 2 notifications.",
        "1 of 2 not delivered because the endpoint returned 503 at 15:05 ; no retries left.",
        "What to do: Nothing, if it was temporarily overloaded or under maintenance",
        "2 events",
        "returned 202",
        "2 attempts",
        "Delivered at 15:05 .",
        "No endpoint was subscribed to this event when it arrived.",
        "Order details",
        "SKU-9",
        "Times are in UTC .",
    ):
        assert part in seen.text, part
    order = [seen.text.index(part) for part in ("did not get", "Order cancelled", "Order completed", "Archive")]
    assert order == sorted(order), "the ERP first, and the earliest event first"
    assert seen.html.count('<details class="fold" open>') == 1, "folded if all is well"
    html = unquote(seen.html.replace("&amp;", "&"))
    assert 'href="/webhooks/attempts?q[order_number_eq]=R/1">Webhooks for this order' in html
    assert "q[shipment_number_in][]=H1&q[shipment_number_in][]=H12345678901&q[shipment_number_in][]=H2" in html
    assert 'href="/webhooks/subscriptions/S%201"' in seen.html
    assert f'<code id="link">{troubled.url}/webhooks/orders/R%2F1</code>' in seen.html
    assert "Resend" not in seen.text, "a viewer is not offered it"
    assert not troubled.kafka.audits, "no body was read"


async def test_failed_notifications_are_resent_with_one_click(troubled: Service, admin: Visitor) -> None:
    seen = await admin.go("/webhooks/orders/R%2F1")
    assert "Resend it" in seen.text
    assert "Resend all" not in seen.text, "only one endpoint misses something"
    seen = await admin.send("/webhooks/orders/R%2F1/resend")

    assert seen.path == "/webhooks/orders/R%2F1"
    assert "1 notification is being resent to ERP." in seen.text
    [query] = troubled.attempts.queries
    assert query.conditions == (
        Condition("order_number", Predicate.EQ, ("R/1",)),
        Condition("endpoint_id", Predicate.EQ, (1,)),
    )
    await until_idle(troubled)
    assert len(troubled.kafka.to("webhooks.delay.0s")) == 1

    troubled.attempts.rows = ()
    await admin.go("/webhooks/orders/R%2F1")
    assert "There is nothing to resend" in (await admin.send("/webhooks/orders/R%2F1/resend")).text
    token = [("csrf", dict(admin.seen.form("/webhooks/logout").fields)["csrf"])] if admin.seen else []
    for path, fields in (("orders/R1", [("endpoint", "x")]), ("stock-items/x", [])):
        seen = await admin.post(f"/webhooks/{path}/resend", [*token, *fields])
        assert (seen.path, 'class="notice bad"' in seen.html) == (f"/webhooks/{path}", True)


async def test_failed_notifications_of_several_endpoints_are_resent(troubled: Service, admin: Visitor) -> None:
    rows = (*troubled.attempts.record.attempts[:3], attempt_row(id=9, event_id="evt_1", endpoint_id=3, outcome="exhausted"))
    troubled.attempts.record = TimelineRecords(troubled.attempts.record.events, rows, is_complete=True)
    seen = await admin.go("/webhooks/orders/R%2F1")
    assert "Archive did not get its notification. ERP did not get 1 of 2 notifications." in seen.text
    assert "Resend all 2 that failed" in seen.text

    # One of them is paused: its missing notifications are sent when it is resumed, so only one can be resent to.
    async with troubled.client.patch("/api/webhook/endpoints/3", json={"endpoint": {"active": False}}) as response:
        assert response.status == 200
    troubled.attempts.record = TimelineRecords(troubled.attempts.record.events, (*rows[:3],), is_complete=True)
    seen = await admin.go("/webhooks/orders/R%2F1")
    assert ("Archive did not get" in seen.text, "Resend all" in seen.text) == (True, False)
    assert '<button class="button primary">Resend it</button>' in seen.html
    async with troubled.client.patch("/api/webhook/endpoints/3", json={"endpoint": {"active": True}}) as response:
        assert response.status == 200

    # If the timeline is incomplete, notifications are counted first.
    troubled.attempts.record = TimelineRecords(troubled.attempts.record.events, rows, is_complete=False)
    seen = await admin.go("/webhooks/orders/R%2F1")
    assert "Only the newest events are shown" in seen.text
    assert 'href="/webhooks/resends/new?q%5Border_number_eq%5D=R%2F1"' in seen.html
    assert [form.action for form in seen.forms if "resend" in form.action] == []


async def test_all_are_resent_except_to_an_endpoint_that_accepts_nothing(troubled: Service, admin: Visitor) -> None:
    paused = await troubled.create("http://127.0.0.1/paused", description="Paused", active=False)
    rows = tuple(
        attempt_row(id=10 + one, event_id="evt_1", endpoint_id=one, outcome="exhausted", next_attempt_at=None)
        for one in (1, 3, paused)
    )
    troubled.attempts.record = TimelineRecords(troubled.attempts.record.events[:1], rows, is_complete=True)
    seen = await admin.go("/webhooks/orders/R%2F1")
    assert "Resend all 2 that failed" in seen.text
    for part in ("resume the endpoint . Then resend what it did not get.", "no retries left"):
        assert part in seen.text, part
    assert "held deliveries are then sent" not in seen.text, "nothing is held"
    resend_all = [form for form in seen.forms if ("endpoint", "3") in form.fields and ("endpoint", "1") in form.fields]
    await admin.post(resend_all[0].action, resend_all[0].fields)
    [query] = troubled.attempts.queries
    assert Condition("endpoint_id", Predicate.IN, (3, 1)) in query.conditions

    # A page older than the pause.
    form = [("csrf", dict(seen.form("/webhooks/logout").fields)["csrf"]), ("endpoint", str(paused))]
    seen = await admin.post("/webhooks/orders/R%2F1/resend", form)
    assert f"Endpoint {paused} is paused. Resume it first." in seen.text
    assert "being resent" not in seen.text


async def test_the_current_state_is_shown_and_not_the_planned_one(troubled: Service, admin: Visitor) -> None:
    late = attempt_row(id=11, event_id="evt_1", endpoint_id=1, next_attempt_at=NOW - timedelta(minutes=24))
    troubled.attempts.record = TimelineRecords(troubled.attempts.record.events[:1], (late,), is_complete=True)
    facts: dict[str, Any] = {"endpoint_id": 1, "endpoint_version": 1, "at": NOW}
    troubled.learn(
        HealthRecord(fact=HealthFact.CIRCUIT, circuit="open", until=NOW + timedelta(minutes=1), **facts),
        HealthRecord(fact=HealthFact.FAILING, since=NOW - timedelta(hours=2, minutes=6), **facts),
    )
    seen = await admin.go("/webhooks/orders/R1")
    assert (
        "1 of 1 not delivered because the endpoint has been returning 503 since 12:58 ; on hold: endpoint is down." in seen.text
    )
    assert "24 min ago" not in seen.text

    async with troubled.client.patch("/api/webhook/endpoints/1", json={"endpoint": {"active": False}}) as response:
        assert response.status == 200
    seen = await admin.go("/webhooks/orders/R1")
    for part in ("because the endpoint is paused; held until the endpoint is resumed.", "resume the endpoint"):
        assert part in seen.text, part
    assert "Resend it" not in seen.text
    async with troubled.client.delete("/api/webhook/endpoints/1") as response:
        assert response.status == 204
    seen = await admin.go("/webhooks/orders/R1")
    assert "127.0.0.1/hooks did not get its notification." in seen.text
    assert "because the endpoint was deleted." in seen.text


async def test_an_endpoint_is_resumed_from_the_page_and_the_reader_stays_there(troubled: Service, admin: Visitor) -> None:
    rows = (attempt_row(id=11, event_id="evt_1", endpoint_id=1),)
    troubled.attempts.record = TimelineRecords(troubled.attempts.record.events[:1], rows, is_complete=True)
    resume = "/webhooks/endpoints/1/resume"
    assert [form.action for form in (await admin.go("/webhooks/orders/R%2F1")).forms if form.action == resume] == []
    async with troubled.client.patch("/api/webhook/endpoints/1", json={"endpoint": {"active": False}}) as response:
        assert response.status == 200
    await admin.go("/webhooks/orders/R%2F1")
    seen = await admin.send(resume)
    assert seen.path == "/webhooks/orders/R%2F1"
    assert "ERP: The endpoint receives webhooks again." in seen.text
    assert troubled.kafka.changes[-1].active

    async with troubled.client.patch("/api/webhook/endpoints/1", json={"endpoint": {"active": False}}) as response:
        assert response.status == 200
    await admin.go("/webhooks/orders/R%2F1")
    seen = await admin.send(resume, {"back": "https://example.com/webhooks"})
    assert seen.path == "/webhooks/endpoints/1", "only pages of the dashboard"


async def test_many_events_are_folded(troubled: Service, viewer: Visitor) -> None:
    """Otherwise, the next endpoint that missed something would be many screens below."""
    for count, opened in ((20, 1), (21, 0)):
        events = tuple(EventRow(f"evt_{n}", "order_completed", NOW, NOW, "R/1", (), None, (1,)) for n in range(count))
        row = attempt_row(id=11, event_id="evt_1", endpoint_id=1)
        troubled.attempts.record = TimelineRecords(events, (row,), is_complete=True)
        assert (await viewer.go("/webhooks/orders/R%2F1")).html.count('<details class="fold" open>') == opened, count


async def test_only_admins_resume_an_endpoint(troubled: Service, viewer: Visitor) -> None:
    async with troubled.client.patch("/api/webhook/endpoints/1", json={"endpoint": {"active": False}}) as response:
        assert response.status == 200
    seen = await viewer.go("/webhooks/orders/R%2F1")
    assert "ask an admin to resume the endpoint" in seen.text
    assert "/webhooks/endpoints/1/resume" not in seen.html


async def test_an_endpoint_is_verified_from_the_page(troubled: Service, admin: Visitor) -> None:
    troubled.sender.exchange = answer(404)
    asked = await troubled.create("http://127.0.0.1/asked", description="Asked", verification="signed_event")
    event = replace(troubled.attempts.record.events[0], endpoint_ids=(asked,))
    troubled.attempts.record = TimelineRecords((event,), (), is_complete=True)
    await admin.go("/webhooks/orders/R%2F1")
    troubled.sender.exchange = answer(204)
    seen = await admin.send(f"/webhooks/endpoints/{asked}/verify")
    assert seen.path == "/webhooks/orders/R%2F1"
    assert "Asked: The endpoint is verified." in seen.text


async def test_an_unknown_number_is_reported(viewer: Visitor) -> None:
    seen = await viewer.go("/webhooks/orders/r742992696")
    for part in (
        "No webhooks recorded for order “r742992696”",
        "has this exact order number",
        "Did you mean Order R742992696",
        "Every digit matters, and so does upper and lower case",
    ):
        assert part in seen.text, part
    assert 'href="/webhooks/orders/R742992696"' in seen.html


@pytest.mark.parametrize(
    ("path", "about", "title"),
    [
        ("shipments/H1", TimelineSubject.SHIPMENT, "Shipment H1"),
        ("subscriptions/S1", TimelineSubject.SUBSCRIPTION, "Subscription S1"),
        ("stock-items/42", TimelineSubject.STOCK_ITEM, "Stock item 42"),
    ],
)
async def test_timelines_of_other_objects(
    service: Service, viewer: Visitor, path: str, about: TimelineSubject, title: str
) -> None:
    seen = await viewer.go(f"/webhooks/{path}")
    assert service.attempts.timelines_requested == [(about, path.rpartition("/")[2])]
    for part in (title, "No webhooks recorded for"):
        assert part in seen.text, part
    assert (await viewer.go(f"/webhooks/{path.partition('/')[0]}/" + "x" * 300)).status == 404


UNUSUAL = ("R\u202e1", "R\u200b1", "a\tb\n", "\x1b[31m", "\x00", " ", "R1/", "?#%", "\ue000")


@pytest.mark.parametrize("folder", ["orders", "shipments", "subscriptions", "stock-items"])
@pytest.mark.parametrize("number", UNUSUAL)
async def test_the_page_of_a_number_with_any_characters(service: Service, viewer: Visitor, folder: str, number: str) -> None:
    """An attempt with this number links to it."""
    seen = await viewer.go(f"/webhooks/{folder}/{segment(number)}")
    assert (seen.status, [one for _, one in service.attempts.timelines_requested]) == (
        200,
        [] if folder == "stock-items" else [number],
    )
    assert not {"\u202e", "\u200b", "\x1b", "\x00"} & set(seen.html)
    assert (await viewer.go(f"/webhooks/{folder}/%FF%00")).status == 200, "bytes that are not text"


@pytest.mark.parametrize("number", [*UNUSUAL, "."])
async def test_the_links_of_an_attempt_lead_to_pages(service: Service, viewer: Visitor, number: str) -> None:
    numbers = {"order_number": number, "shipment_numbers": (number,), "subscription_id": number}
    service.attempts.details = {1: detail(id=1, **numbers)}
    service.attempts.rows = (attempt_row(id=1, **numbers),)
    for page, folders in (("/1", ("orders", "shipments", "subscriptions")), ("", ("orders",))):
        html = (await viewer.go(f"/webhooks/attempts{page}")).html
        for folder in folders:
            linked = [unquote(one) for one in re.findall(f'href="/webhooks/{folder}/([^"]*)"', html)]
            assert linked == ([] if number == "." else [number])


async def test_a_stock_item_id_is_a_whole_number(service: Service, viewer: Visitor) -> None:
    assert "No webhooks recorded for stock item “x”" in (await viewer.go("/webhooks/stock-items/x")).text
    assert service.attempts.timelines_requested == []
