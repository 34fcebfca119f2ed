"""Logging in, and API keys, in the browser."""

from __future__ import annotations

import re
import shutil

import pytest
from playwright.async_api import Browser, expect

from tests.browser.chromium import NoBrowserError, Tab, find_chromium, tab_of
from tests.browser.conftest import log_in
from tests.browser.shop import Shop

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_login(shop: Shop, stranger: Tab) -> None:
    page = stranger.page
    await stranger.go("/webhooks/endpoints")
    await expect(page).to_have_title("Log in · OMS webhooks")
    await stranger.look("login")
    stranger.expected.add(401)
    await page.get_by_label("API key").fill("a-wrong-key")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_text("This API key is not valid")).to_be_visible()
    await expect(page.get_by_label("API key")).to_have_value("")
    await stranger.look("login-wrong")


async def test_a_key_gives_the_rights_of_its_role(shop: Shop, admin: Tab, browser: Browser) -> None:
    page = admin.page
    await page.get_by_role("link", name="API keys").click()
    await admin.look("keys-none")
    await page.get_by_label("Name").fill("Ada, support")
    await page.get_by_role("radio", name=re.compile("^Viewer")).check()
    await page.get_by_role("button", name="Create key").click()
    key = await page.locator(".secret code").inner_text()
    await admin.look("keys")

    async with tab_of(browser, shop.url) as ada:
        await log_in(ada, key)
        await expect(ada.page.get_by_text("Ada, support")).to_be_visible()
        await expect(ada.page.get_by_role("link", name="API keys")).to_have_count(0)
        await ada.go(shop.page("erp"))
        await expect(ada.page.get_by_role("button", name="Pause")).to_have_count(0)
        ada.expected.add(403)
        await ada.go("/webhooks/keys")
        await expect(ada.page.get_by_text("This needs a key with the admin role. Your key has the viewer role.")).to_be_visible()
        await ada.look("not-allowed")

        await page.get_by_role("link", name="Revoke the key Ada, support").click()
        await admin.look("key-revoke")
        await page.get_by_role("button", name="Revoke key").click()
        await expect(page.get_by_text("The key “Ada, support” was revoked.")).to_be_visible()

        await ada.go("/webhooks")
        await expect(ada.page).to_have_url(re.compile("/webhooks/login"))


async def test_a_missing_page(shop: Shop, admin: Tab) -> None:
    admin.expected.add(404)
    await admin.go("/webhooks/endpoints/999999")
    await expect(admin.page.get_by_role("heading", name="Not found")).to_be_visible()
    await admin.look("not-found")


async def test_without_chromium_the_suite_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(NoBrowserError, match="apt-get install chromium"):
        find_chromium()
