"""The overview in the browser: live with JavaScript, on reload without."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.browser.chromium import Tab, tab_of
from tests.browser.conftest import log_in
from tests.browser.shop import Shop
from tests.integration.conftest import API_KEY, event_bytes

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def events_in(tab: Tab) -> int:
    text = await tab.page.locator(".figure").filter(has_text="Events in").locator(".value").inner_text()
    return int(text.replace(",", ""))


async def test_failing_endpoints_are_named(shop: Shop, admin: Tab) -> None:
    failing = admin.page.locator("section").filter(has_text="Needs attention")
    for name in ("Warehouse", "Old shop"):
        await expect(failing).to_contain_text(name)
    await expect(failing).not_to_contain_text("ERP")
    await expect(admin.page.locator(".figure").filter(has_text="Oldest undelivered event")).to_contain_text("retry")
    await admin.look("overview")
    await admin.page.set_viewport_size({"width": 390, "height": 844})
    lefts = await admin.page.locator(".figure").evaluate_all("all => all.map(one => one.getBoundingClientRect().left)")
    assert lefts == lefts[:2] * 3, "rows of figures have no gaps"


async def test_the_overview_is_live(shop: Shop, admin: Tab) -> None:
    await expect(admin.page.get_by_text("Live", exact=True)).to_be_visible()
    before = await events_in(admin)
    await shop.pipeline.publish(event_bytes("evt-live", number="R910000001"))
    figure = admin.page.locator(".figure").filter(has_text="Events in").locator(".value")
    await expect(figure).not_to_have_text(f"{before:,}", timeout=60_000)
    assert await events_in(admin) > before
    # The part with the keyboard focus is not replaced, and the page does not call itself live in the meantime.
    link = admin.page.locator("[data-live] a").first
    await link.focus()
    await expect(admin.page.get_by_text("Paused while a link or button here has the focus")).to_be_visible(timeout=15_000)
    await link.blur()
    await expect(admin.page.get_by_text("Live", exact=True)).to_be_visible(timeout=15_000)


async def test_without_javascript_a_reload_updates_the_overview(shop: Shop, browser: Browser) -> None:
    async with tab_of(browser, shop.url, javascript=False) as tab:
        await log_in(tab, API_KEY)
        before = await events_in(tab)
        await shop.pipeline.publish(event_bytes("evt-reloaded", number="R910000002"))
        for _ in range(100):
            await tab.page.reload()
            if await events_in(tab) > before:
                break
        assert await events_in(tab) > before
        # No control is shown that would not work.
        assert await tab.page.locator("button[data-copy]:visible").count() == 0


async def test_the_keyboard_reaches_everything(shop: Shop, admin: Tab) -> None:
    page = admin.page
    await admin.go("/webhooks")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()
    await admin.go("/webhooks")
    # The service's name leads to the overview too, and is not a separate stop.
    for name in ("Skip to content", "Overview", "Endpoints"):
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name=name, exact=True).first).to_be_focused()
