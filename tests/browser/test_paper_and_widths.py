"""Pages on paper, on the smallest phone and on a wide screen: dark on white, nothing cut off, nothing overlapping."""

from __future__ import annotations

from typing import Final

import pytest
from playwright.async_api import ViewportSize, expect

from pipeline.devtools.receiver import Behaviour
from schemas.event import EventType
from tests.browser.chromium import Tab
from tests.browser.shop import Shop
from tests.browser.test_attempts import attempts_of, publish

pytestmark = pytest.mark.asyncio(loop_scope="session")

_PAPER: Final[ViewportSize] = {"width": 688, "height": 1000}
"""A4 without its margins, in CSS pixels."""
_TIGHT: Final = """() => {
  const shown = [...document.querySelectorAll("header a, header button, main a, main time, main .badge, main h1, main h2, main button")]
    .filter(one => one.checkVisibility({visibilityProperty: true}) && !one.closest(".unseen, .panel, .skip"));
  const cut = [...document.querySelectorAll(".top nav, main h1, main h2, main .badge, main .tag")]
    .filter(one => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== "inline");
  const beyond = one => { const cell = one.closest("td"); return cell && getComputedStyle(cell).overflow === "hidden"
    && one.getBoundingClientRect().right > cell.getBoundingClientRect().right - parseFloat(getComputedStyle(cell).paddingRight) + 1; };
  cut.push(...[...document.querySelectorAll("td .badge")].filter(one => one.checkVisibility() && beyond(one)));
  const found = cut.map(one => "cut: " + one.textContent.trim().replace(/\\s+/g, " "));
  // A name without end is cut at its cell, with three dots: what would be beyond is not seen.
  const seen = one => {
    const cell = one.closest("td, th");
    const edge = cell && getComputedStyle(cell).overflow === "hidden" ? cell.getBoundingClientRect() : null;
    return [...one.getClientRects()].map(box => edge ? {left: Math.max(box.left, edge.left), right: Math.min(box.right, edge.right),
      top: Math.max(box.top, edge.top), bottom: Math.min(box.bottom, edge.bottom)} : box);
  };
  shown.forEach((one, at) => shown.slice(at + 1).forEach(other => {
    if (one.contains(other) || other.contains(one)) return;
    for (const a of seen(one)) for (const b of seen(other))
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 5)
        found.push("upon each other: " + one.textContent.trim() + " | " + other.textContent.trim());
  }));
  return found;
}"""
_FAINT: Final = """() => {
  const light = colour => { const [r, g, b] = colour.match(/[0-9.]+/g).map(Number); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = one => { for (; one; one = one.parentElement) {
    const colour = getComputedStyle(one).backgroundColor; if (!/, 0\\)$/.test(colour)) return light(colour); } return 255; };
  return [...document.querySelectorAll("main *")].filter(one => one.checkVisibility() && one.innerText && !one.children.length)
    .filter(one => ground(one) < 200 || light(getComputedStyle(one).color) > 140).map(one => one.outerHTML);
}"""
"""Text that would be light on light, or dark on dark, on paper."""


async def one_attempt(shop: Shop, number: str) -> tuple[str, int]:
    """Return the page of an attempt that failed before a second one was acknowledged, and its endpoint's id."""
    name = f"paper-{number}"
    await shop.endpoint(name, Behaviour(fail_first=1, status=503), (EventType.ORDER_COMPLETED,), "Loyalty points")
    await publish(shop, f"evt_{number}", number)
    await attempts_of(shop, f"evt_{number}", 2, endpoint_id_eq=shop.ids[name])
    failed = await shop.pipeline.attempts(event_id_eq=f"evt_{number}", endpoint_id_eq=shop.ids[name], state_eq="failed")
    return f"/webhooks/attempts/{failed[0]['id']}", shop.ids[name]


async def test_a_printed_page_is_complete_and_dark_on_white(shop: Shop, admin: Tab) -> None:
    """Whatever the screen's colours: staff print the timeline of an order, or an attempt, for a ticket."""
    page = admin.page
    attempt, endpoint_id = await one_attempt(shop, "R700000001")
    await page.set_viewport_size(_PAPER)
    await page.emulate_media(media="print", color_scheme="dark")
    for path in (
        attempt,
        "/webhooks/orders/R700000001",
        "/webhooks/attempts?q[state_eq]=failed",
        "/webhooks/endpoints",
        "/webhooks",
    ):
        await admin.go(path)
        assert await page.evaluate(_FAINT) == [], path
        assert await page.evaluate(_TIGHT) == [], path
        assert await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, path
        for pressed in ("header.top", ".button", ".toolbar", "kbd", ".unseen"):
            assert await page.locator(pressed).filter(visible=True).count() == 0, (path, pressed)
        await expect(page.get_by_text("Page loaded at")).to_be_visible()

    await admin.go("/webhooks/attempts?q[state_eq]=failed")
    await expect(page.get_by_text("Attempts, failed", exact=True)).to_be_visible()
    await admin.go(attempt)
    body = page.locator("#request-body")
    assert await body.evaluate("one => one.scrollHeight - one.clientHeight") <= 0, (
        "the body is not cut off at the height of a screen"
    )
    await body.locator("details summary").nth(1).evaluate("one => one.click()")
    assert await body.locator("details:not([open])").first.evaluate("one => one.checkVisibility()"), "folded JSON has its name"
    await admin.go(shop.page("erp"))
    told = await page.locator("time.ago").first.evaluate("one => getComputedStyle(one, '::after').content")
    assert "attr" not in told
    assert "UTC" in told, "a relative time shows the absolute time too"
    assert (await page.pdf(format="A4")).startswith(b"%PDF")

    await page.emulate_media(media="screen", color_scheme="light")
    await expect(page.get_by_text("Page loaded at")).to_be_hidden()
    assert (await shop.pipeline.api.delete(f"endpoints/{endpoint_id}")).status_code == 204


async def test_nothing_is_cut_off_or_covered_on_a_small_phone_or_a_wide_screen(shop: Shop, admin: Tab) -> None:
    page = admin.page
    attempt, endpoint_id = await one_attempt(shop, "R700000002")
    paths = (
        attempt,
        "/webhooks/orders/R700000002",
        "/webhooks/attempts",
        "/webhooks/attempts/live",
        "/webhooks/endpoints",
        shop.page("warehouse"),
        "/webhooks/dead-letters",
        "/webhooks/keys",
        "/webhooks/event-types",
        "/webhooks",
    )
    for path in paths:
        await admin.go(path)
        for width in (360, 800, 1160, 1440):
            await page.set_viewport_size({"width": width, "height": 800})
            assert await page.evaluate(_TIGHT) == [], (path, width)
            header = await page.locator(".me").bounding_box()
            assert header is not None
            assert header["y"] < 30, "the user is shown next to the name, also on a small phone"
    await page.set_viewport_size({"width": 360, "height": 800})
    await admin.go(attempt)
    await page.locator("summary", has_text="headers").last.click()
    value = await page.locator(".headers td").last.bounding_box()
    assert value is not None
    assert value["width"] > 200, "the value of a header is not squeezed beside its name"
    assert (await shop.pipeline.api.delete(f"endpoints/{endpoint_id}")).status_code == 204


async def test_a_long_number_that_is_not_on_record_fits_on_a_phone(admin: Tab) -> None:
    await admin.go(f"/webhooks/orders/R{'9' * 120}")
    for width in (360, 1440):
        await admin.page.set_viewport_size({"width": width, "height": 800})
        assert await admin.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, (
            width
        )


async def test_the_guide_can_be_read_without_a_login(admin: Tab) -> None:
    await admin.go("/webhooks/guide")
    await admin.look("guide")
