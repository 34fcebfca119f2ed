"""The ten tasks of a shop's staff, each with a mouse and a count of its clicks: none takes more than four from the overview.

Text is typed where the page has put the cursor; otherwise, the click into the field counts. ``/`` focuses the search box.
docs/dashboard.md has the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, expect

from pipeline.devtools.receiver import Behaviour, Receiver
from schemas.api_key import Access
from schemas.attempt import Attempt, AttemptState, Outcome
from schemas.codec import to_header, to_json
from schemas.delivery import DISPATCH_HEADER, Dispatch, Trigger
from schemas.event import EventMeta, EventType
from tests.browser.chromium import Tab, tab_of
from tests.browser.conftest import log_in
from tests.browser.shop import Shop
from tests.browser.test_attempts import attempts_of, publish
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

MOST = 4


@dataclass
class Clicks:
    """Counts mouse clicks across pages."""

    made: int = 0

    def add(self) -> None:
        self.made += 1


@asynccontextmanager
async def counted(tab: Tab, exactly: int) -> AsyncIterator[None]:
    """Check the number of clicks from the overview on, as in the table of the documentation."""
    clicks = Clicks()
    await tab.page.expose_function("countClick", clicks.add)
    await tab.page.add_init_script("addEventListener('pointerdown', () => window.countClick(), true)")
    await tab.go("/webhooks")
    yield
    await until(lambda: clicks.made >= exactly)
    assert clicks.made == exactly <= MOST


async def failing(shop: Shop, name: str) -> int:
    """Register an endpoint that answers 500, and make it fail; returns its id."""
    receiver = Receiver(name, behaviour=Behaviour(fail_rate=1.0, status=500))
    shop.pipeline.receivers.append(receiver)
    made = await shop.pipeline.register(f"{await receiver.start()}{name}", [EventType.ORDER_COMPLETED], description=name)
    await publish(shop, f"evt_{name}", "R000000071")
    await attempts_of(shop, f"evt_{name}", 1, endpoint_id_eq=made["id"])
    endpoint_id: int = made["id"]
    return endpoint_id


async def gone(shop: Shop, endpoint_id: int) -> None:
    """Delete the endpoint, so that it does not affect other tests."""
    assert (await shop.pipeline.api.delete(f"endpoints/{endpoint_id}")).status_code == 204


async def test_1_register_an_endpoint(shop: Shop, admin: Tab) -> None:
    page, receiver = admin.page, Receiver("first-task")
    shop.pipeline.receivers.append(receiver)
    url = f"{await receiver.start()}first-task"
    async with counted(admin, 4):
        await page.get_by_role("link", name="Endpoints", exact=True).click()
        await page.get_by_role("link", name="New endpoint").click()
        await expect(page.get_by_label("URL")).to_be_focused()
        await page.keyboard.insert_text(url)
        await page.locator("input[name=events][value=order_cancelled]").check()
        await page.get_by_role("button", name="Register endpoint").click()
        await expect(page.locator(".secret code")).to_contain_text("whsec_")
    await gone(shop, int(page.url.rpartition("/")[2]))


async def test_2_why_an_order_did_not_reach_the_erp(shop: Shop, admin: Tab) -> None:
    page, endpoint_id = admin.page, await failing(shop, "second-task")
    async with counted(admin, 0):
        await page.keyboard.press("/")
        await page.keyboard.insert_text("r000 000 071")
        await page.keyboard.press("Enter")
        card = page.locator("section.receiver", has_text="second-task")
        await expect(card).to_contain_text(
            re.compile("1 of 1 not delivered because the endpoint (has been returning|returned) 500")
        )
        await expect(card).to_contain_text("What to do:")
        await expect(card.get_by_role("button", name="Resend it")).to_be_visible()
    await gone(shop, endpoint_id)


async def test_3_yesterdays_failures_with_a_sku_are_resent(shop: Shop, admin: Tab) -> None:
    page, receiver = admin.page, Receiver("third-task")
    shop.pipeline.receivers.append(receiver)
    url = f"{await receiver.start()}third-task"
    endpoint_id: int = (await shop.pipeline.register(url, [EventType.ORDER_CANCELLED]))["id"]
    await failed_yesterday(shop, "evt_third_task", "BLK-TEE-77", endpoint_id)
    await attempts_of(shop, "evt_third_task", 1, created_at_lteq="yesterday")
    async with counted(admin, 4):
        await page.locator(".needs").get_by_role("link", name="yesterday").click()
        await page.locator("summary.tool", has_text=re.compile("^Body")).click()
        await expect(page.get_by_label("Body contains")).to_be_focused()
        await page.keyboard.insert_text("BLK-TEE-77")
        await page.keyboard.press("Enter")
        await expect(page.locator("tbody tr[data-attempt]")).to_have_count(1)
        await page.get_by_role("link", name="Resend failed").first.click()
        await page.get_by_role("button", name="Resend 1 notification").click()
        await expect(page.locator(".badge", has_text="done")).to_be_visible()
    await until(lambda: receiver.counts.acknowledged == 1)
    await gone(shop, endpoint_id)


async def failed_yesterday(shop: Shop, identifier: str, sku: str, endpoint_id: int) -> None:
    """Record an order that an endpoint refused yesterday."""
    topics, at = shop.pipeline.settings.topics, datetime.now(UTC).replace(hour=12) - timedelta(days=1)
    event = EventMeta(id=identifier, event_name="order_completed", created_at=at, order_number="R000000073", skus=(sku,))
    body = json.dumps({"id": identifier, "event_name": "order_completed", "created_at": at.isoformat(), "data": {"sku": sku}})
    seen = Dispatch(
        event=event,
        endpoint_ids=(endpoint_id,),
        received_at=at,
        source_topic=topics.orders,
        source_partition=0,
        source_offset=1_000_000,
    )
    attempt = Attempt(
        event=event,
        endpoint_id=endpoint_id,
        target_url="http://127.0.0.1/third-task",
        attempt=6,
        trigger=Trigger.RETRY,
        state=AttemptState.FAILED,
        outcome=Outcome.EXHAUSTED,
        created_at=at,
        duration_ms=12.0,
        http_status_code=503,
        request_headers={"webhook-id": identifier},
    )
    producer, key = shop.pipeline.producer, identifier.encode()
    await producer.send(topics.dispatches, key=key, value=body.encode(), headers=[to_header(DISPATCH_HEADER, seen)])
    await producer.send(topics.attempts, key=key, value=to_json(attempt))


async def test_4_pause_and_resume_a_failing_endpoint(shop: Shop, admin: Tab) -> None:
    page, endpoint_id = admin.page, await failing(shop, "fourth-task")
    async with counted(admin, 4):
        # Click 1: failing endpoints are first on the overview.
        await page.locator(".needs").get_by_role("link", name="fourth-task").click()
        await page.get_by_role("link", name="Pause").click()
        await expect(page.get_by_text("Nothing is lost")).to_be_visible()
        await page.get_by_role("button", name="Pause endpoint").click()
        await expect(page.locator(".url-line")).to_contain_text("paused")
        await page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_text("The endpoint receives webhooks again.")).to_be_visible()
    await gone(shop, endpoint_id)


async def test_5_rotate_a_secret(shop: Shop, admin: Tab) -> None:
    page = admin.page
    async with counted(admin, 4):
        await page.get_by_role("link", name="Endpoints", exact=True).click()
        await page.get_by_role("link", name="ERP", exact=True).click()
        await page.get_by_role("link", name="Rotate").click()
        await page.get_by_role("button", name="Create new secret").click()
        await expect(page.locator(".secret code")).to_contain_text("whsec_")


async def test_6_send_a_test_event(shop: Shop, admin: Tab) -> None:
    page = admin.page
    async with counted(admin, 3):
        await page.get_by_role("link", name="Endpoints", exact=True).click()
        await page.get_by_role("link", name="ERP", exact=True).click()
        await page.get_by_role("button", name="Send test event").click()
        await expect(page.get_by_text("Test acknowledged")).to_be_visible()


async def test_7_repair_a_dead_letter(shop: Shop, admin: Tab) -> None:
    page, topic = admin.page, shop.pipeline.settings.topics.orders
    data = {"number": "R000000077"}
    event = {"id": "evt_seventh", "event_name": "order_completed", "occurred_at": "2026-03-02T15:04:00Z", "data": data}
    whole = json.dumps(event, indent=2)
    broken = whole.replace('"order_completed",', '"order_completed"')

    async def letters() -> set[int]:
        found = (await shop.pipeline.api.get("dead_letters", params={"q[reason_eq]": "not_json"})).json()
        return {one["id"] for one in found["dead_letters"]}

    there = await letters()  # dead letters of other tests
    await shop.pipeline.producer.send(topic, key=b"R000000077", value=broken.encode())

    async def came() -> bool:
        return bool(await letters() - there)

    await until(came)
    async with counted(admin, 4):
        await page.locator(".needs").get_by_role("link", name=re.compile("dead letter")).click()
        await page.locator("tbody tr", has_text="Not JSON").first.get_by_role("link").first.click()
        # The page shows where the record is invalid, and one click leads there.
        await expect(page.locator(".problems")).to_contain_text("Expected a comma, or the end of the list or object.")
        await page.locator(".problems").get_by_role("link", name=re.compile("^Line")).click()
        await expect(page.get_by_label("Value")).to_be_focused()
        await page.keyboard.press("Control+a")
        await page.keyboard.insert_text(whole)
        # It is checked while typing.
        await expect(page.locator(".fits")).to_contain_text("It can be published: Order completed R000000077")
        await admin.look("dead-letter-fits")
        await page.get_by_role("button", name="Check and publish").click()
        await expect(page.get_by_text(re.compile("Published again to .*oms.orders"))).to_be_visible()
    await attempts_of(shop, "evt_seventh", 1)
    await admin.until("published it again")
    await admin.go("/webhooks/dead-letters?q[repaired_eq]=true")
    await expect(page.get_by_text("published it again").first).to_be_visible()
    await admin.look("dead-letters-repaired")


async def test_8_give_somebody_a_viewers_key(admin: Tab) -> None:
    page = admin.page
    async with counted(admin, 3):
        await page.get_by_role("link", name="API keys").click()
        await page.get_by_label("Name").click()
        await page.keyboard.insert_text("support desk")
        await page.keyboard.press("Tab")
        await page.keyboard.insert_text("Grace Hopper")
        await expect(page.get_by_role("radio", name=re.compile("^Viewer"))).to_be_checked()
        await page.get_by_role("button", name="Create key").click()
        await expect(page.locator(".secret code")).to_contain_text("omsw_")
    await expect(page.get_by_role("row", name=re.compile("Grace Hopper"))).to_contain_text("never")


async def test_9_export_attempts(admin: Tab) -> None:
    page = admin.page
    async with counted(admin, 3):
        await page.get_by_role("link", name="Attempts", exact=True).click()
        await page.locator("summary.tool", has_text=re.compile("^More")).click()
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Export as CSV").click()
        assert (await download.value).suggested_filename == "attempts.csv"


async def test_10_share_a_search(shop: Shop, admin: Tab, browser: Browser) -> None:
    page = admin.page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    async with counted(admin, 4):
        await page.get_by_role("link", name="Attempts", exact=True).click()
        await page.get_by_role("link", name=re.compile("^[0-9,]+ failed$")).click()
        await page.locator("summary.tool", has_text=re.compile("^More")).click()
        await page.get_by_role("button", name="Copy link").click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    await expect(page).to_have_title("Attempts, failed · OMS webhooks")
    link = await page.evaluate("navigator.clipboard.readText()")

    made = await shop.pipeline.api.post("keys", json={"key": {"name": "A colleague", "role": Access.VIEWER.value}})
    async with tab_of(browser, shop.url) as colleague:
        await log_in(colleague, made.json()["key"])
        await colleague.go(link)
        await expect(colleague.page.locator("summary.chosen")).to_have_text("Result: failed")
        await expect(colleague.page.locator("tbody tr").first).to_be_visible()
