"""Endpoints in the browser: register one, see its deliveries, test, change, pause and delete it."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from pipeline.devtools.receiver import Receiver
from schemas.event import EventType
from tests.browser.chromium import Tab
from tests.browser.shop import Shop
from tests.integration.conftest import event_bytes
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_list_of_endpoints(shop: Shop, admin: Tab) -> None:
    await admin.page.get_by_role("link", name="Endpoints", exact=True).click()
    row = admin.page.get_by_role("row").filter(has_text="ERP")
    await expect(row).to_contain_text("All types")
    await expect(row).to_contain_text("100%")
    # One attempt in twelve fails at the mailer: if that was the last one, the endpoint is failing.
    for name, state in (("mailer", "active|failing"), ("old-shop", "disabled"), ("search-index", "paused")):
        await expect(admin.page.get_by_role("row").filter(has_text=f"/{name}")).to_contain_text(re.compile(state))
    await admin.look("endpoints")

    await admin.page.get_by_label("Name or URL").fill("MAIL")
    await admin.page.get_by_role("button", name="Find").click()
    await expect(admin.page.get_by_text("1 endpoint", exact=True)).to_be_visible()


async def test_both_ends_of_a_long_url_are_visible(shop: Shop, admin: Tab) -> None:
    """Partners' URLs differ at their ends, which no screen cuts off."""
    url = f"http://127.0.0.1:9/{'partners-of-the-shop/' * 4}receive"
    ids = [(await shop.pipeline.register(f"{url}/{end}", (EventType.ORDER_CANCELLED,)))["id"] for end in ("north", "south")]
    for width in (1440, 1100, 390):
        await admin.page.set_viewport_size({"width": width, "height": 900})
        await admin.go("/webhooks/endpoints?find=partners-of-the-shop")
        for end in ("north", "south"):
            row = admin.page.get_by_role("row").filter(has_text=f"receive/{end}")
            cell = await row.get_by_role("rowheader").bounding_box()
            shown = await row.locator(".cut > :last-child").bounding_box()
            assert cell is not None
            assert shown is not None
            assert shown["x"] + shown["width"] <= cell["x"] + cell["width"], (width, end)
    for identifier in ids:
        assert (await shop.pipeline.api.delete(f"endpoints/{identifier}")).status_code == 204


@pytest.mark.parametrize("name", ["mailer", "warehouse", "old-shop", "search-index"])
async def test_an_endpoint_in_each_state(shop: Shop, admin: Tab, name: str) -> None:
    await admin.go(shop.page(name))
    await expect(admin.page.locator(".url-line")).to_contain_text(f"/{name}")
    await admin.look(f"endpoint-{name}")


async def test_from_registration_to_deletion(shop: Shop, admin: Tab) -> None:
    page = admin.page
    receiver = Receiver("fresh")
    shop.pipeline.receivers.append(receiver)
    url = f"{await receiver.start()}fresh"

    # Mistakes are shown next to their fields.
    await admin.go("/webhooks/endpoints")
    await page.get_by_role("link", name="New endpoint").click()
    await admin.look("endpoint-new")
    admin.expected.add(422)
    await page.get_by_label("URL").fill("ftp://example.com")
    await page.get_by_role("button", name="Register endpoint").click()
    await expect(page.get_by_label("URL")).to_have_attribute("aria-invalid", "true")
    await expect(page.locator("#events-errors")).to_be_visible()
    await admin.look("endpoint-new-mistakes")

    # Choosing all types shows a warning before anything is sent.
    await page.get_by_label("URL").fill(url)
    warning = page.get_by_text("Listening to everything puts undue strain on a server")
    boxes = page.locator("input[name=events]")
    await expect(warning).to_be_hidden()
    for number in range(len(EventType)):
        await boxes.nth(number).check()
    await expect(warning).to_be_visible()
    await admin.look("endpoint-new-everything")
    for number in range(2, len(EventType)):
        await boxes.nth(number).uncheck()
    await expect(warning).to_be_hidden()
    await page.get_by_label("Description").fill("Made in a browser")
    await page.get_by_role("button", name="Register endpoint").click()

    # The secret is shown once, and signs the requests.
    await expect(page.get_by_text("The endpoint is registered.")).to_be_visible()
    await admin.look("endpoint-registered")
    receiver.secret = await page.locator(".secret code").inner_text()
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.locator(".secret").get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == receiver.secret
    await page.reload()
    await expect(page.locator(".secret")).to_have_count(0)
    assert receiver.secret not in await page.content()

    # An event arrives, and the page counts it.
    await shop.pipeline.publish(event_bytes("evt-browser-1", number="R900000001"))
    await until(lambda: receiver.counts.acknowledged == 1)
    assert receiver.counts.bad_signature == 0
    await admin.until("1 of 1 attempt delivered")

    # A test event.
    await page.get_by_label("Event type").select_option("stock_item_out_of_stock")
    await page.get_by_role("button", name="Send test event").click()
    await expect(page.get_by_text("Test acknowledged: stock_item_out_of_stock returned 204")).to_be_visible()
    await admin.look("endpoint-tested")
    assert receiver.counts.acknowledged == 2

    # A custom header.
    await page.get_by_text("Set a header").click()
    await page.get_by_label("Name").fill("X-Tenant")
    await page.get_by_label("Value").fill("acme")
    await page.get_by_role("button", name="Set header").click()
    await expect(page.get_by_role("button", name="Remove x-tenant")).to_be_visible()

    # A new secret.
    await page.get_by_role("link", name="Rotate").click()
    await admin.look("endpoint-rotate")
    await page.get_by_role("button", name="Create new secret").click()
    renewed = await page.locator(".secret code").inner_text()
    assert renewed != receiver.secret

    # Changed and paused.
    await page.get_by_role("link", name="Edit").click()
    await page.get_by_label("Description").fill("Changed in a browser\nby Ada")
    await admin.look("endpoint-edit")
    await page.get_by_role("button", name="Save changes").click()
    await expect(page.get_by_role("heading", name="Changed in a browser")).to_be_visible()
    # The next edit keeps the description's lines.
    await page.get_by_role("link", name="Edit").click()
    await page.get_by_role("button", name="Save changes").click()
    await expect(page.get_by_text("Changes saved.")).to_be_visible()
    await page.get_by_role("link", name="Edit").click()
    await expect(page.get_by_label("Description")).to_have_value("Changed in a browser\nby Ada")
    await page.get_by_role("link", name="Cancel").click()
    await page.get_by_role("link", name="Pause").click()
    await admin.look("endpoint-pause")
    await page.get_by_role("button", name="Pause endpoint").click()
    await expect(page.get_by_text("held for up to 14 days").first).to_be_visible()

    # Held deliveries can be dropped, by confirming their number; then the endpoint is resumed.
    await shop.pipeline.publish(event_bytes("evt-browser-held", number="R900000003"))
    dropping = page.get_by_role("link", name="Drop 1 held delivery")

    async def is_held() -> bool:
        await page.reload()
        return await dropping.count() == 1

    await until(is_held)
    await admin.look("endpoint-held")
    await dropping.click()
    await admin.look("endpoint-drop")
    await page.get_by_role("button", name="Drop 1 held delivery").click()
    await expect(page.get_by_text("1 held delivery is dropped")).to_be_visible()
    await page.get_by_role("button", name="Resume").click()
    await expect(page.get_by_text("The endpoint receives webhooks again.")).to_be_visible()

    # Both secrets sign, and the header is sent.
    await shop.pipeline.publish(event_bytes("evt-browser-2", number="R900000002"))
    await until(lambda: receiver.counts.acknowledged == 3)
    assert receiver.deliveries[-1].headers["x-tenant"] == "acme"
    assert len(receiver.deliveries[-1].headers["webhook-signature"].split()) == 2

    # Deleted.
    await page.get_by_role("link", name="Delete").click()
    await admin.look("endpoint-delete")
    await page.get_by_role("button", name="Delete endpoint").click()
    await expect(page).to_have_url(re.compile("/webhooks/endpoints$"))
    await expect(page.get_by_text("fresh is deleted")).to_be_visible()
    await expect(page.get_by_role("link", name="Changed in a browser")).to_have_count(0)


async def test_foreign_markup_is_text(shop: Shop, admin: Tab) -> None:
    page = admin.page
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    evil = "\"'><script>alert(1)</script><img src=x onerror=alert(1)><svg/onload=alert(1)>"
    await admin.go("/webhooks/endpoints/new")
    await page.get_by_label("URL").fill(f"http://127.0.0.1:9/?{evil.replace(' ', '%20')}")
    await page.get_by_label("Order completed").check()
    await page.get_by_label("Description").fill(evil)
    await page.locator("summary", has_text="and filters").click()
    await page.get_by_label("Filters").fill('{"channel": ["<img src=x onerror=alert(1)>"]}')
    await page.get_by_role("button", name="Register endpoint").click()
    await expect(page.get_by_text(evil).first).to_be_visible()
    await expect(page.get_by_text("<img src=x onerror=alert(1)>").first).to_be_visible()
    own = page.url.rpartition(":")[2].partition("/")[2]
    for path in ("webhooks", "webhooks/endpoints", own, f"{own}/edit", f"{own}/delete"):
        await admin.go(f"/{path}")
        assert await page.locator("img[src=x], svg[onload], script:not([src])").count() == 0, path
    assert asked == []
    await page.get_by_role("button", name="Delete endpoint").click()
