"""A shop whose webhooks go to real receivers, and a real browser that shows its dashboard. The session shares both,
so that the tests share an event loop: ``pytestmark = pytest.mark.asyncio(loop_scope="session")``.

The first test waits until the shop runs and has its history; the others take seconds, because each loads whole pages.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.chromium import Tab, launched, tab_of
from tests.browser.shop import Shop, open_shop
from tests.integration.conftest import API_KEY


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shop(bootstrap_servers: str, request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    """Run the pipeline, with endpoints in every state and a history of real events."""
    apache = request.config.getoption("--kafka") == "apache"
    async with open_shop(bootstrap_servers, f"t{secrets.token_hex(4)}.", apache=apache) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Run Chromium. Without it, the tests fail and say what to install."""
    async with launched() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def stranger(browser: Browser, shop: Shop) -> AsyncIterator[Tab]:
    """Open a tab without a login."""
    async with tab_of(browser, shop.url) as tab:
        yield tab


@pytest_asyncio.fixture(loop_scope="session")
async def admin(stranger: Tab) -> Tab:
    """Open a tab that is logged in as an admin."""
    await log_in(stranger, API_KEY)
    return stranger


async def log_in(tab: Tab, key: str) -> None:
    """Log in as users do."""
    await tab.go("/webhooks/login")
    await tab.page.get_by_label("API key").fill(key)
    await tab.page.get_by_role("button", name="Log in").click()
    await tab.page.wait_for_url("**/webhooks")
