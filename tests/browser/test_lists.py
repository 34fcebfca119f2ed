"""Lists and attempts in use: the position of the first row, the keys that lead to it, several endpoints at once, live updates."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from playwright.async_api import Browser, expect

from pipeline.devtools.receiver import Behaviour, Receiver
from schemas.event import EventType
from tests.browser.chromium import SCREENSHOTS, Tab, tab_of
from tests.browser.conftest import log_in
from tests.browser.shop import Shop
from tests.browser.test_attempts import attempts_of, chip, publish
from tests.integration.conftest import API_KEY

pytestmark = pytest.mark.asyncio(loop_scope="session")

LAPTOP = {"width": 1440, "height": 900}
SMALL_LAPTOP = {"width": 1100, "height": 800}
PHONE = {"width": 390, "height": 844}


_SHIFTS = """new Promise((tell) => {
  const watch = (list) => tell(list.getEntries().reduce((sum, one) => sum + one.value, 0));
  new PerformanceObserver(watch).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => tell(0), 500);
})"""
"""How far parts moved while the page was loading; 0 if none did."""
UNSEEN = 0.02
"""On a busy machine, Chromium may draw a chip before its label has arrived. Shifts of 0.0005 to 0.0125 were measured."""


async def shoot(tab: Tab, name: str) -> None:
    """Take screenshots of the first view on a laptop and a phone, light and dark."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for device, size in (("1440", LAPTOP), ("390", PHONE)):
        await tab.page.set_viewport_size(size)  # type: ignore[arg-type]
        for scheme in ("light", "dark"):
            await tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            await tab.page.screenshot(path=SCREENSHOTS / f"{name}-{device}-{scheme}.png")
    await tab.page.set_viewport_size(LAPTOP)  # type: ignore[arg-type]
    await tab.page.emulate_media(color_scheme="light", reduced_motion="reduce")


async def test_the_first_attempt_is_near_the_top(admin: Tab) -> None:
    await admin.go("/webhooks/attempts")
    await shoot(admin, "list")
    for size, most in ((LAPTOP, 400), (SMALL_LAPTOP, 400), (PHONE, 500)):
        await admin.page.set_viewport_size(size)  # type: ignore[arg-type]
        for query in ("", "?q[state_eq]=failed&q[created_at_gteq]=-24h"):
            await admin.go(f"/webhooks/attempts{query}")
            box = await admin.page.locator("tbody tr").first.bounding_box()
            assert box is not None
            assert box["y"] < most, (size, query, box)
            if size is not PHONE:
                assert box["height"] < 45, "one line"
            assert await admin.page.evaluate(_SHIFTS) < UNSEEN, "its appearance moves nothing"


async def test_actions_of_failed_attempts_have_their_own_row(admin: Tab) -> None:
    await admin.go("/webhooks/attempts?q[state_eq]=failed")
    tops = "all => all.map(one => one.getBoundingClientRect().top)"
    for size in (LAPTOP, SMALL_LAPTOP):
        await admin.page.set_viewport_size(size)  # type: ignore[arg-type]
        filters = await admin.page.locator(".toolbar form .tool, .toolbar .tool.quiet").evaluate_all(tops)
        actions = await admin.page.locator(".toolbar .spacer ~ .tool, .toolbar .spacer ~ details > .tool").evaluate_all(tops)
        assert len(set(filters)) == len(set(actions)) == 1, (size, filters, actions)
        assert actions[0] > filters[0], size
    await admin.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    for name, start in ((".tool.chosen", 0), (".tool.strong", 100)):
        box = await admin.page.locator(name).bounding_box()
        assert box is not None
        assert start < box["x"] < 200, (name, "is visible on a phone")


async def test_a_filter_without_a_menu_looks_like_the_others(admin: Tab) -> None:
    await admin.go("/webhooks/attempts?q[sku_eq]=CUPS-4&q[state_eq]=failed")
    looks = """one => { const style = getComputedStyle(one);
      return [style.borderTopWidth, style.borderTopColor, style.borderRadius, style.fontSize, style.minHeight]; }"""
    chip_of_sku = admin.page.locator(".toolbar .chip")
    await expect(chip_of_sku).to_contain_text("CUPS-4")
    assert await chip_of_sku.evaluate(looks) == await admin.page.locator(".tool.chosen").evaluate(looks)


async def test_few_key_presses_lead_to_the_first_attempt(admin: Tab) -> None:
    page = admin.page
    await admin.go("/webhooks/attempts")
    stops = 0
    while not await page.evaluate("document.activeElement.matches('tbody .row-link')"):
        await page.keyboard.press("Tab")
        stops += 1
        assert stops <= 11, await page.evaluate("document.activeElement.outerHTML")
    # Ten stops before it, including the link past the navigation.
    assert stops - 1 <= 10

    # The chips are one stop, with arrow keys inside.
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Home")
    while not await page.evaluate(
        "document.activeElement.matches('summary') && document.activeElement.innerText.startsWith('Endpoint')"
    ):
        await page.keyboard.press("ArrowRight")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Endpoint", exact=True)).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_label("Endpoint", exact=True)).to_be_hidden()
    await expect(page.locator("summary", has_text="Endpoint").first).to_be_focused()


async def test_unfolded_filters_stay_in_place_and_fit(admin: Tab) -> None:
    page = admin.page
    chip_of = page.locator(".spread > summary")
    await admin.go("/webhooks/attempts")
    await page.set_viewport_size(LAPTOP)  # type: ignore[arg-type]
    before = await chip_of.bounding_box()
    await chip_of.click()
    assert await chip_of.bounding_box() == before
    await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    await admin.go("/webhooks/attempts")
    await chip_of.click()
    left = await page.locator(".toolbar > *, .toolbar form > *").evaluate_all(
        "all => Math.min(...all.map(one => one.getBoundingClientRect()).filter(box => box.width).map(box => box.left))"
    )
    assert left >= 0, "nothing is out of view"


async def test_filters_work_without_javascript(shop: Shop, browser: Browser) -> None:
    async with tab_of(browser, shop.url, javascript=False) as tab:
        await log_in(tab, API_KEY)
        await tab.go("/webhooks/attempts")
        await chip(tab, "Result")
        await tab.page.get_by_label("Result", exact=True).select_option("failed")
        await tab.page.locator("details[open] button").click()
        await expect(tab.page.locator("summary.chosen")).to_have_text("Result: failed")
        await tab.page.get_by_role("link", name="Live", exact=True).click()
        await expect(tab.page.locator("tbody tr").first).to_be_visible()
        await expect(tab.page.get_by_role("button", name="Pause")).to_be_hidden()


async def test_new_attempts_appear_without_a_reload(shop: Shop, admin: Tab) -> None:
    page = admin.page
    await admin.go(f"/webhooks/attempts?q[endpoint_id_eq]={shop.ids['erp']}")
    await page.get_by_role("link", name="Live", exact=True).click()
    await expect(page.locator("[data-live-state]")).to_have_text("Live")
    await publish(shop, "evt_live", "R000000061")
    await expect(page.locator("tbody tr.new", has_text="R000000061")).to_be_visible()
    await shoot(admin, "live")
    await admin.look("attempts-live")

    await page.get_by_role("button", name="Pause").click()
    await publish(shop, "evt_live_2", "R000000062")
    await expect(page.get_by_role("button", name="Resume (1 new)")).to_be_visible()
    await expect(page.locator("tbody tr", has_text="R000000062")).to_have_count(0)
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator("tbody tr", has_text="R000000062")).to_have_count(1)


async def test_attempts_missed_while_offline_are_reported_with_a_link(shop: Shop, admin: Tab) -> None:
    page = admin.page
    await publish(shop, "evt_missed", "R000000065")
    await attempts_of(shop, "evt_missed", 1, endpoint_id_eq=shop.ids["erp"])
    # As if it had received nothing since 1970. The event precedes scripts with `defer`.
    await page.add_init_script(
        "document.addEventListener('readystatechange', () => { "
        "for (const one of document.querySelectorAll('[data-live-rows]')) one.dataset.shown = '1'; })"
    )
    await asyncio.sleep(10)  # attempts of the last ten seconds are sent
    await admin.go("/webhooks/attempts/live?q[event_id_eq]=evt_missed")
    missed = page.locator("tbody tr.missed")
    await expect(missed).to_contain_text(re.compile(r"Interrupted from .* to .*: [0-9]+ attempts? (is|are) missing here"))
    await admin.look("attempts-live-missed")
    await missed.get_by_role("link", name="Search for").click()
    await expect(page.locator("tbody tr", has_text="R000000065").first).to_be_visible()


async def test_bidirectional_control_characters_are_visible(shop: Shop, admin: Tab) -> None:
    page = admin.page
    await publish(shop, "evt_bidi", "R000000063", email="ada\u202egnp.exe@example.com", note="a\u2066b\u200fc")
    await attempts_of(shop, "evt_bidi", 1, endpoint_id_eq=shop.ids["erp"])
    found = await shop.pipeline.attempts(event_id_eq="evt_bidi", endpoint_id_eq=shop.ids["erp"])
    await admin.go(f"/webhooks/attempts/{found[0]['id']}")
    await expect(page.locator("#request-body")).to_contain_text("ada\\u202egnp.exe@example.com")
    shown = await page.content()
    assert not set("\u202e\u2066\u200f") & set(shown)
    await shoot(admin, "attempt-delivered")

    # The copied text is the shown JSON, folded or not, and it is valid JSON.
    copied = await page.evaluate("document.querySelector('#request-body').textContent")
    assert json.loads(copied)["data"]["email"] == "ada\u202egnp.exe@example.com"
    fold = page.locator("#request-body details details").first
    hidden = fold.locator(":scope > span, :scope > .str").first
    await expect(hidden).to_be_visible()
    await fold.locator("summary").first.click()
    await expect(hidden).to_be_hidden()
    await page.get_by_label("Find in body").fill("example.com")
    await page.get_by_role("button", name="Find").click()
    await expect(page.locator("#request-body mark").first).to_be_visible()


async def test_several_endpoints_are_paused_and_resumed(shop: Shop, admin: Tab) -> None:
    page = admin.page
    made = []
    for number in range(3):
        receiver = Receiver(f"several-{number}")
        shop.pipeline.receivers.append(receiver)
        made.append(
            await shop.pipeline.register(
                f"{await receiver.start()}several/with/a/very/long/path/that/nobody/can/read/to/its/end/{number}",
                (EventType.STOCK_ITEM_OUT_OF_STOCK,),
                description=f"Several {number}",
            )
        )
    await admin.go("/webhooks/endpoints")
    assert await page.evaluate(_SHIFTS) < UNSEEN
    await shoot(admin, "endpoints")
    await page.get_by_label("Name or URL").fill("several")
    await page.get_by_role("button", name="Find").click()
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(3)
    await expect(page.locator(".bulk")).to_be_hidden()
    await page.get_by_label("Select all on this page").check()
    await page.get_by_label("Select Several 1").uncheck()
    await expect(page.locator(".bulk")).to_be_visible()
    await shoot(admin, "endpoints-chosen")
    await admin.look("endpoints-chosen")
    await page.get_by_role("button", name="Pause…").click()
    await expect(page.get_by_role("heading", name="Pause 2 endpoints?")).to_be_visible()
    await admin.look("endpoints-pause")
    await page.get_by_role("button", name="Pause 2 endpoints").click()
    await expect(page.get_by_text("2 endpoints are paused.")).to_be_visible()

    await admin.go("/webhooks/endpoints?find=several&state=paused")
    await expect(rows).to_have_count(2)
    await page.get_by_label("Select all on this page").check()
    await page.get_by_role("button", name="Resume…").click()
    await page.get_by_role("button", name="Resume 2 endpoints").click()
    await expect(page.get_by_text("2 endpoints are resumed.")).to_be_visible()
    await admin.go(f"/webhooks/endpoints/{made[0]['id']}")
    heading = await page.get_by_role("heading", level=1).bounding_box()
    assert heading is not None
    assert heading["height"] < 60
    await shoot(admin, "endpoint")
    for one in made:
        await shop.pipeline.api.delete(f"endpoints/{one['id']}")


async def test_a_test_event_shows_that_it_is_in_progress(shop: Shop, admin: Tab) -> None:
    page = admin.page
    receiver = Receiver("slow", behaviour=Behaviour(delay=0.5))
    shop.pipeline.receivers.append(receiver)
    made = await shop.pipeline.register(f"{await receiver.start()}slow", (EventType.STOCK_ITEM_OUT_OF_STOCK,))
    await admin.go(f"/webhooks/endpoints/{made['id']}")
    # In one step: while a page waits for the next one, it cannot be queried from outside.
    label = await page.get_by_role("button", name="Send test event").evaluate("(one) => { one.click(); return one.textContent; }")
    assert label == "Sending…"
    await expect(page.get_by_text("Test acknowledged")).to_be_visible()
    await shop.pipeline.api.delete(f"endpoints/{made['id']}")


async def test_typed_text_survives_the_end_of_the_session(shop: Shop, admin: Tab) -> None:
    page = admin.page
    await admin.go("/webhooks/endpoints/new")
    await page.get_by_label("Description").fill("Typed for an hour")
    await page.locator("input[name=target_url]").fill("ftp://typed")
    await page.context.clear_cookies()
    admin.expected |= {401, 422}
    await page.get_by_role("button", name="Register endpoint").click()
    await expect(page.get_by_text("Your session has ended.")).to_be_visible()
    await admin.look("login-carried")
    await page.get_by_label("API key").fill(API_KEY)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_text("has not been processed yet")).to_be_visible()
    await admin.look("carried")
    await page.get_by_role("button", name="Send form").click()
    await expect(page.get_by_label("Description")).to_have_value("Typed for an hour")
    await expect(page.get_by_label("URL")).to_have_attribute("aria-invalid", "true")


async def test_nothing_is_cut_off_on_a_small_laptop(admin: Tab) -> None:
    """The duration is visible in the row without scrolling, and an attempt's text stays within its card."""
    page = admin.page
    await page.set_viewport_size({"width": 1100, "height": 800})
    await admin.go("/webhooks/attempts")
    wrap = page.locator(".table-wrap").first
    assert await wrap.evaluate("one => one.scrollWidth - one.clientWidth") <= 0
    await page.locator("tbody .row-link").first.click()
    await expect(page.get_by_role("heading", name="Details")).to_be_visible()
    beyond = """() => [...document.querySelectorAll(".facts dd > *")].filter(one =>
        one.getBoundingClientRect().right > one.closest(".card").getBoundingClientRect().right).map(one => one.textContent)"""
    assert await page.evaluate(beyond) == []
