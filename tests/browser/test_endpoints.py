"""Endpoints in the browser: register, look at, test, change, pause, rotate, delete."""

from __future__ import annotations

import pytest

from tests.browser.chromium import Tab
from tests.browser.shop import Shop

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_list(shop: Shop, admin: Tab) -> None:
    await admin.page.get_by_role("link", name="Endpoints", exact=True).click()
    await admin.look("endpoints")


async def test_one(shop: Shop, admin: Tab) -> None:
    for name in ("erp", "mailer", "warehouse", "old-shop"):
        await admin.go(await shop.path(name))
        await admin.look(f"endpoint-{name}")


async def test_new(shop: Shop, admin: Tab) -> None:
    await admin.go("/webhooks/endpoints/new")
    await admin.look("endpoint-new")
    for box in await admin.page.locator("input[name=events]").all():
        await box.check()
    await admin.look("endpoint-new-all")


async def test_overview(shop: Shop, admin: Tab) -> None:
    await admin.go("/webhooks")
    await admin.look("overview")


async def test_keys(shop: Shop, admin: Tab) -> None:
    await admin.go("/webhooks/keys")
    await admin.look("keys")


async def test_login(shop: Shop, stranger: Tab) -> None:
    await stranger.go("/webhooks/login")
    await stranger.look("login")
