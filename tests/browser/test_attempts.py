"""Webhooks in the browser: register → event → attempt → details → resend → search → order page; and other tasks."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from playwright.async_api import expect

from pipeline.devtools.receiver import Behaviour, Receiver
from schemas.api_key import Access
from schemas.event import EventType
from schemas.samples import sample_payload
from tests.browser.chromium import Tab
from tests.browser.conftest import log_in
from tests.browser.shop import Shop
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def publish(shop: Shop, identifier: str, number: str, **data: object) -> None:
    """Publish a completed order."""
    event = {
        "id": identifier,
        "event_name": "order_completed",
        "occurred_at": datetime.now(UTC).isoformat(),
        "data": {**sample_payload(EventType.ORDER_COMPLETED), "number": number, **data},
        "references": {"subscription_id": "S-77"},
    }
    topic = shop.pipeline.settings.topics.orders
    await shop.pipeline.producer.send(topic, key=number.encode(), value=json.dumps(event).encode())


async def attempts_of(shop: Shop, identifier: str, count: int, **filters: object) -> None:
    """Wait until a number of attempts of an event are recorded."""

    async def are_there() -> bool:
        return len(await shop.pipeline.attempts(event_id_eq=identifier, **filters)) >= count

    await until(are_there)


async def chip(tab: Tab, title: str) -> None:
    """Open a chip of the row above the attempts."""
    await tab.page.locator("summary.tool", has_text=re.compile(f"^{title}")).click()


async def test_from_the_registration_to_the_page_of_the_order(shop: Shop, admin: Tab) -> None:
    page = admin.page
    receiver = Receiver("bookkeeping", behaviour=Behaviour(fail_first=1, status=503))
    shop.pipeline.receivers.append(receiver)
    url = f"{await receiver.start()}bookkeeping"

    await admin.go("/webhooks/endpoints/new")
    await page.locator("input[name=target_url]").fill(url)
    await page.locator("input[name=events][value=order_completed]").check()
    await page.locator("main form button.primary").click()
    await page.wait_for_url(re.compile(r"/webhooks/endpoints/\d+"))
    endpoint_id = int(page.url.rpartition("/")[2].partition("?")[0])

    await publish(shop, "evt_bookkeeping", "R000000042", email="grace.hopper@example.com")
    await attempts_of(shop, "evt_bookkeeping", 2, endpoint_id_eq=endpoint_id)

    await admin.go("/webhooks/attempts")
    await chip(admin, "Endpoint")
    await page.get_by_label("Endpoint", exact=True).select_option(str(endpoint_id))
    await chip(admin, "Order")
    await page.get_by_label("Order", exact=True).fill("R000000042")
    await page.get_by_label("Order", exact=True).press("Enter")
    await page.wait_for_url("**order_number_eq**")
    assert "order_number_eq" in page.url
    assert "created_at" not in page.url, "empty fields are left out"
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first.locator(".badge.good")).to_have_count(1)
    await rows.last.locator("a").first.click()

    await expect(page.get_by_text("The endpoint returned 503 (Service Unavailable)")).to_be_visible()
    await expect(page.get_by_text("What the receiver should do:")).to_be_visible()
    await expect(page.locator("#request-body")).to_contain_text('"email": "grace.hopper@example.com"')
    await expect(page.locator("#curl")).to_contain_text("curl --request POST")
    await expect(page.locator(".tries tbody tr")).to_have_count(2)
    await admin.look("attempt")

    # It is delivered by now: the page says so, and a resend asks first.
    await expect(page.locator(".status .verdict")).to_contain_text(re.compile(r"^Delivered\s+at .* on the second attempt"))
    await page.get_by_role("link", name="Compare the response").click()
    await expect(page.locator(".diff .removed").first).to_contain_text("503")
    await expect(page.locator(".diff .added").first).to_contain_text("204")
    await admin.look("attempt-compared")
    await expect(page.locator(".button.primary")).to_have_count(0)
    await page.get_by_role("link", name="Resend…").click()
    await expect(page.get_by_role("heading", name="Resend a delivered notification")).to_be_visible()
    await admin.look("attempt-resend")
    await page.get_by_role("button", name="Resend").click()
    await expect(page.get_by_text(f"The notification is queued for endpoint {endpoint_id}.")).to_be_visible()
    await attempts_of(shop, "evt_bookkeeping", 3, endpoint_id_eq=endpoint_id)
    await page.reload()
    await expect(page.locator(".tries tbody tr")).to_have_count(3)
    await expect(page.locator(".tries")).to_contain_text("resend")

    await admin.go("/webhooks/attempts")
    await chip(admin, "Body")
    await page.get_by_label("Body contains").fill("GRACE.hopper")
    await admin.look("attempts-chip-open")
    await page.get_by_label("Body contains").press("Enter")
    await expect(page.locator("mark").first).to_have_text("grace.hopper")
    await admin.look("attempts-found")
    await page.locator("tbody tr a").first.click()
    await expect(page.locator("#request-body mark")).to_have_text("grace.hopper")

    await page.get_by_role("link", name="R000000042").first.click()
    await expect(page.get_by_role("heading", name="Order details")).to_be_visible()
    await expect(page.locator(".receiver", has_text="bookkeeping")).to_have_count(1)
    await expect(page.locator(".receiver", has_text="bookkeeping")).to_contain_text("Delivered at")
    await admin.look("order")
    await page.get_by_role("link", name="Webhooks for this order").click()
    await expect(page.locator("#order")).to_have_value("R000000042")

    await admin.go("/webhooks/subscriptions/S-77")
    await expect(page.get_by_role("heading", name="Subscription S-77")).to_be_visible()
    await page.locator("aside").get_by_role("link", name="R000000042").click()
    await page.locator("aside dd a").first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Shipment")


async def test_clicks_narrow_a_wide_search(shop: Shop, admin: Tab) -> None:
    page = admin.page
    await admin.go("/webhooks/attempts")
    await admin.look("attempts")
    await chip(admin, "Over time")
    await admin.look("attempts-over-time")
    await page.locator(".facet").get_by_role("link", name="Failed").click()
    await expect(page.locator("#state")).to_have_value("failed")
    count = page.locator(".count")
    before = await count.inner_text()
    await chip(admin, "Over time")
    await page.locator("svg.wide a").last.click(force=True)
    await expect(page.locator("#since")).not_to_have_value("")
    await page.get_by_role("link", name="Clear all").click()
    assert await count.inner_text() != before

    first = await page.locator("tbody tr a").first.get_attribute("href")
    await page.get_by_role("link", name="Next →").click()
    assert await page.locator("tbody tr a").first.get_attribute("href") != first
    await page.get_by_role("link", name="← Previous").click()
    await expect(page.locator("tbody tr a").first).to_be_visible()

    await admin.go(
        "/webhooks/attempts?q[attempt_gteq]=2&q[g][0][m]=or&q[g][0][state_eq]=failed&q[g][0][attempt_gt]=1&q[colour_eq]=red"
    )
    await expect(page.locator(".chip")).to_have_count(3)
    await expect(page.locator("#ignored")).to_contain_text("attempts have no attribute colour")
    await admin.look("attempts-chips")
    await page.get_by_label("Remove filter: colour_eq: red").click()
    await expect(page.locator(".chip")).to_have_count(2)
    await expect(page.locator("#ignored")).to_have_count(0)

    await chip(admin, "More")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="CSV").click()
    assert (await download.value).suggested_filename == "attempts.csv"


async def test_all_failed_notifications_of_a_filter_are_resent(shop: Shop, admin: Tab) -> None:
    page = admin.page
    await admin.go(f"/webhooks/attempts?q[endpoint_id_eq]={shop.ids['warehouse']}&q[state_eq]=failed")
    await page.get_by_role("link", name="Resend failed").click()
    await admin.look("resend-new")
    heading = await page.get_by_role("heading", level=1).inner_text()
    count = int(re.findall(r"\d+", heading)[0])
    await page.get_by_role("button", name=re.compile("^Resend ")).click()
    await expect(page.get_by_role("heading", name="Resend run")).to_be_visible()
    # The page updates itself, without a reload.
    await expect(page.locator(".badge", has_text="done")).to_be_visible(timeout=30_000)
    await expect(page.locator(".figure").first).to_contain_text(str(count))
    await admin.look("resend-run")
    await page.get_by_role("link", name="Resends").click()
    await until(lambda: _has_row(admin))
    await admin.look("resends")


async def _has_row(tab: Tab) -> bool:
    await tab.page.reload()
    return await tab.page.locator("tbody tr").count() >= 1


async def test_a_dead_letter_is_repaired(shop: Shop, admin: Tab) -> None:
    page = admin.page
    topic = shop.pipeline.settings.topics.orders
    broken = '{"id": "evt_mended", "event_name": "order_completed", "of": "a line wider than a phone",}'
    await shop.pipeline.producer.send(topic, key=b"R000000043", value=broken.encode())
    await admin.go("/webhooks/dead-letters")
    await until(lambda: _has_row(admin))
    await admin.look("dead-letters")
    await page.locator("tbody tr a").first.click()
    await expect(page.locator("#value-was")).to_have_text(broken)
    await admin.look("dead-letter")

    admin.expected.add(422)
    await page.get_by_role("button", name="Check and publish").click()
    await expect(page.get_by_text("the record would become a dead letter again.")).to_be_visible()
    await admin.look("dead-letter-refused")
    admin.expected.clear()
    event = {
        "id": "evt_mended",
        "event_name": "order_completed",
        "occurred_at": "2026-03-02T15:04:00Z",
        "data": {"number": "R000000043"},
    }
    await page.get_by_label("Value").fill(json.dumps(event, indent=2))
    await page.get_by_role("button", name="Check and publish").click()
    await expect(page.get_by_text(re.compile("Published again to .*oms.orders"))).to_be_visible()
    await attempts_of(shop, "evt_mended", 1)
    await page.get_by_role("link", name="View attempts").click()
    await expect(page.locator("tbody tr").first).to_contain_text("R000000043")


async def test_a_viewer_sees_no_bodies_and_changes_nothing(shop: Shop, stranger: Tab) -> None:
    made = await shop.pipeline.api.post("keys", json={"key": {"name": "A viewer", "role": Access.VIEWER.value}})
    await log_in(stranger, made.json()["key"])
    page = stranger.page
    await stranger.go("/webhooks/attempts?q[state_eq]=failed")
    await expect(page.locator("#body")).to_have_count(0)
    await expect(page.get_by_role("link", name="Resend failed")).to_have_count(0)
    await page.locator("tbody tr a").first.click()
    await expect(page.get_by_text("Bodies contain customer data")).to_be_visible()
    await expect(page.get_by_role("button", name="Resend")).to_have_count(0)
    stranger.expected.add(403)
    await stranger.go("/webhooks/attempts?q[request_body_cont]=ada")
    await expect(page.locator("#problem")).to_contain_text("Searching in bodies needs a key with the operator role.")


async def test_a_search_that_asks_for_too_much_says_how_to_narrow_it(shop: Shop, admin: Tab) -> None:
    admin.expected.add(422)
    pairs = "&".join(f"q[event_id_in][]=evt_{number}" for number in range(1001))
    await admin.go(f"/webhooks/attempts?{pairs}")
    await expect(admin.page.locator("#problem")).to_contain_text("search in several steps")
