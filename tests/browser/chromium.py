"""A real browser: Debian's Chromium, driven by Playwright. It fails a test on any error that its console shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Error, Page, Request, Response, async_playwright, expect

from tests.waiting import until

SCREENSHOTS: Final = Path("var/screenshots")
_ARGUMENTS: Final = (
    "--no-sandbox",  # root, in CI
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_DESKTOP: Final = (1280, 860)
_PHONE: Final = (390, 844)
_MODES: Final[tuple[tuple[str, tuple[int, int], Literal["light", "dark"]], ...]] = (
    ("light", _DESKTOP, "light"),
    ("dark", _DESKTOP, "dark"),
    ("phone", _PHONE, "light"),
)
PATIENCE_MS: Final = 30_000
"""The machine may be busy."""
expect.set_options(timeout=PATIENCE_MS)
_GRAVE: Final = {"serious", "critical"}


class NoBrowserError(Exception):
    """No browser is installed; ``str(error)`` says what to do."""


def find_chromium() -> str:
    """Return the path of Chromium.

    Raises:
        NoBrowserError: it is not installed.
    """
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not found or not Path(found).exists():
        message = "The browser tests need Chromium: apt-get install chromium, or set CHROMIUM to where it is."
        raise NoBrowserError(message)
    return found


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Run a browser."""
    path = find_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@dataclass(eq=False)
class Tab:
    """A browser tab without cookies of other tabs. ``page`` is Playwright's.

    ``problems`` are the errors of the console. They include answers of 400 and above, except ``expected`` ones.
    """

    page: Page
    expected: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Record errors from now on."""
        self.page.on("console", self._console)
        self.page.on("pageerror", self._page_error)
        self.page.on("response", self._response)
        self.page.on("requestfailed", self._failed)

    async def go(self, path: str) -> None:
        """Open a page of the service."""
        await self.page.goto(path)

    async def until(self, text: str) -> None:
        """Reload the page until it contains a text: records appear a moment later."""

        async def says_it() -> bool:
            found = await self.page.get_by_text(text).count() > 0
            if not found:
                await self.page.reload()
            return found

        await until(says_it, f"the page does not say {text!r}")

    async def look(self, name: str) -> None:
        """Check the page in light and dark mode and on a phone. Keeps screenshots."""
        for mode, (width, height), colours in _MODES:
            await self.page.set_viewport_size({"width": width, "height": height})
            await self.page.emulate_media(color_scheme=colours, reduced_motion="reduce")
            await self.look_as_it_is(f"{name}-{mode}")
        await self.page.set_viewport_size({"width": _DESKTOP[0], "height": _DESKTOP[1]})
        await self.page.emulate_media(color_scheme="light", reduced_motion="reduce")

    async def look_as_it_is(self, name: str, part: str | None = None) -> None:
        """Check the page on the current screen. Keeps a screenshot. ``part`` selects what axe checks, if the rest is not ours."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
        found = await Axe().run(self.page, part)
        grave = [one for one in found.response["violations"] if one["impact"] in _GRAVE]
        told = [f"{one['id']} ({one['impact']}): {node['html']}" for one in grave for node in one["nodes"]]
        assert not told, f"{name}: axe finds\n" + "\n".join(told)
        overflow = await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{name}: the page is {overflow} pixels wider than the screen"

    def _console(self, message: ConsoleMessage) -> None:
        # Answers of 400 and above are in the console too; _response knows which were expected.
        if message.type == "error" and not message.text.startswith("Failed to load resource: the server responded"):
            self.problems.append(f"console: {message.text}")

    def _page_error(self, error: Error) -> None:
        self.problems.append(f"script: {error}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected:
            self.problems.append(f"{response.status}: {response.url}")

    def _failed(self, request: Request) -> None:
        # A request aborted by leaving the page is not a problem.
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"{request.failure}: {request.url}")


@asynccontextmanager
async def tab_of(browser: Browser, url: str, *, javascript: bool = True) -> AsyncIterator[Tab]:
    """Open a tab for the service at ``url``; at the end it must have had no problems."""
    context = await browser.new_context(
        base_url=url,
        viewport={"width": _DESKTOP[0], "height": _DESKTOP[1]},
        java_script_enabled=javascript,
        color_scheme="light",
        timezone_id="UTC",  # pages show times in the browser's time zone
    )
    context.set_default_timeout(PATIENCE_MS)
    tab = Tab(await context.new_page())
    tab.watch()
    try:
        yield tab
    finally:
        await context.close()
    assert not tab.problems, "\n".join(tab.problems)
