"""Why order R… did not reach the ERP, and its resend: from the search box to the answer, with the keyboard and without JavaScript."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, expect

from pipeline.devtools.receiver import Behaviour, Receiver
from schemas.api_key import Access
from schemas.event import EventType
from tests.browser.chromium import Tab, tab_of
from tests.browser.conftest import log_in
from tests.browser.shop import Shop
from tests.browser.test_attempts import attempts_of, publish
from tests.integration.conftest import API_KEY
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

ORDER = "R742992696"
MOVED_BY_WHAT_COMES_LATER = """() => {
    const kept = [...document.querySelectorAll("table.endpoints thead th, table.attempts thead th, .figure:first-child")];
    const lefts = () => kept.map((one) => [one.getBoundingClientRect().left, one.getBoundingClientRect().width].map(Math.round).join("+"));
    const before = lefts();
    for (const late of document.querySelectorAll("tbody tr:not(:first-child), .figure:not(:first-child)")) late.remove();
    return lefts().map((after, number) => [before[number], after]).filter(([was, is]) => was !== is).map((both) => both.join(" is "));
}"""

_LEDGER = re.compile(r"Ledger.* did not get (its notification|their notifications)\.")
"""The shop also has a disabled endpoint: if it matches the event, both are named."""


async def unreached(shop: Shop, number: str, status: int = 500) -> tuple[Receiver, int]:
    """Create an order that one endpoint did not get; its server has recovered since."""
    receiver = Receiver(f"timeline-{number}", behaviour=Behaviour(fail_rate=1.0, status=status))
    shop.pipeline.receivers.append(receiver)
    url = f"{await receiver.start()}hooks/with/a/long/path/{number}"
    made = await shop.pipeline.register(url, [EventType.ORDER_COMPLETED], description="Ledger")
    await publish(shop, f"evt_{number}", number)
    # The first attempt and two retries; the next one is an hour away.
    await attempts_of(shop, f"evt_{number}", 3, endpoint_id_eq=made["id"])
    receiver.behaviour = Behaviour()
    return receiver, made["id"]


async def gone(shop: Shop, endpoint_id: int) -> None:
    """Delete the endpoint, so that it does not affect other tests."""
    assert (await shop.pipeline.api.delete(f"endpoints/{endpoint_id}")).status_code == 204


async def test_from_the_order_number_to_the_resend(shop: Shop, admin: Tab) -> None:
    page = admin.page
    receiver, endpoint_id = await unreached(shop, ORDER)
    acknowledged = receiver.counts.acknowledged

    # Click 1: into the box; "/" saves this click.
    await page.keyboard.press("/")
    await expect(page.get_by_label("Find anything")).to_be_focused()
    await page.keyboard.insert_text(f"  {ORDER.lower()} ")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/webhooks/orders/{ORDER}")
    # The shop also has a disabled endpoint: nothing can be resent to it.
    await expect(page.locator(".verdict")).to_contain_text(_LEDGER)
    card = page.locator("section.receiver", has=page.get_by_role("heading", name="Ledger", exact=True))
    await expect(page.get_by_role("button", name=re.compile("Resend all"))).to_have_count(0)
    await expect(card.get_by_role("heading")).to_have_text("Ledger")
    await expect(card).to_contain_text(
        re.compile(r"1 of 1 not delivered because the endpoint (has been returning 500 since|returned 500 at) .*; next retry in")
    )
    await expect(card).to_contain_text("Search the receiver's log at this time")
    await expect(card.locator("details")).to_have_attribute("open", "")
    await expect(page.locator("section.receiver", has_text="ERP").locator("details")).not_to_have_attribute("open", "")
    await admin.look("timeline-trouble")

    # Click 2: the button next to the answer.
    await card.get_by_role("button", name="Resend it").click()
    await expect(page.get_by_text("1 notification is being resent to Ledger.")).to_be_visible()
    await until(lambda: _more(receiver, acknowledged))
    await attempts_of(shop, f"evt_{ORDER}", 4, endpoint_id_eq=endpoint_id)
    await page.reload()
    await expect(page.locator(".verdict")).not_to_contain_text("Ledger")
    await expect(card).to_contain_text("Delivered at")
    await admin.look("timeline-well")

    # Control-K works anywhere, also while typing; the typed text stays.
    await admin.go("/webhooks/endpoints/new")
    await page.locator("input[name=target_url]").fill("https://a/b")
    await page.locator("input[name=target_url]").press("/")
    await expect(page.locator("input[name=target_url]")).to_have_value("https://a/b/")
    await page.keyboard.press("Control+k")
    await expect(page.get_by_label("Find anything")).to_be_focused()
    await page.keyboard.insert_text("ledger")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/webhooks/endpoints/{endpoint_id}")
    await gone(shop, endpoint_id)


async def _more(receiver: Receiver, than: int) -> bool:
    return receiver.counts.acknowledged > than


async def test_without_javascript(shop: Shop, browser: Browser) -> None:
    _, endpoint_id = await unreached(shop, "R742992697", status=503)
    async with tab_of(browser, shop.url, javascript=False) as tab:
        await log_in(tab, API_KEY)
        box = tab.page.get_by_label("Find anything")
        await box.fill("#r742992697")
        await box.press("Enter")
        await tab.page.wait_for_url("**/webhooks/orders/R742992697")
        await expect(tab.page.locator("#link")).to_have_text(f"{shop.url}/webhooks/orders/R742992697")
        await tab.page.get_by_role("button", name="Resend it").click()
        await expect(tab.page.get_by_text("1 notification is being resent to Ledger.")).to_be_visible()
        # The time zone can be chosen without JavaScript too, and stays.
        await tab.page.get_by_role("link", name="Change the time zone").click()
        await tab.page.get_by_label("Zone").fill("Europe/Berlin")
        await tab.page.get_by_role("button", name="Save").click()
        await expect(tab.page.locator(".foot")).to_contain_text("Times are in Europe/Berlin")
        assert "/webhooks/orders/R742992697" in tab.page.url
    await gone(shop, endpoint_id)


async def test_a_viewer_can_read_but_not_send(shop: Shop, stranger: Tab) -> None:
    _, endpoint_id = await unreached(shop, "R742992698")
    made = await shop.pipeline.api.post("keys", json={"key": {"name": "A viewer", "role": Access.VIEWER.value}})
    await log_in(stranger, made.json()["key"])
    await stranger.go("/webhooks/go?text=R742992698")
    await expect(stranger.page.locator(".verdict")).to_contain_text(_LEDGER)
    await expect(stranger.page.get_by_role("button", name=re.compile("Resend"))).to_have_count(0)
    await expect(stranger.page.get_by_text("To resend, you need a key with the operator role.")).to_be_visible()
    await stranger.go("/webhooks/go?text=ada@example.com")
    await expect(stranger.page.get_by_text("a key with the operator role")).to_be_visible()
    await gone(shop, endpoint_id)


async def test_unknown_and_ambiguous_numbers(shop: Shop, admin: Tab) -> None:
    page = admin.page
    await admin.go("/webhooks/orders/r000000001")
    await expect(page.get_by_role("heading", name="No webhooks recorded for order")).to_be_visible()
    await admin.look("timeline-none")
    await admin.go("/webhooks/go?text=127.0.0.1")
    await expect(page.get_by_role("heading", name="Which one?")).to_be_visible()
    await admin.look("go")
    await admin.go("/webhooks/time-zone")
    await admin.look("time-zone")


async def test_a_paused_endpoint_is_resumed_from_the_order(shop: Shop, admin: Tab) -> None:
    page = admin.page
    receiver, endpoint_id = await unreached(shop, "R742992701")
    paused = {"endpoint": {"active": False}}
    assert (await shop.pipeline.api.patch(f"endpoints/{endpoint_id}", json=paused)).status_code == 200
    acknowledged = receiver.counts.acknowledged
    await publish(shop, "evt_while_paused", "R742992701")
    await admin.go("/webhooks/orders/R742992701")
    await admin.until("2 of 2 not delivered")
    card = page.locator("section.receiver", has_text="path/R742992701")
    await card.get_by_role("button", name="Resume endpoint").click()
    await expect(page.get_by_text("Ledger: The endpoint receives webhooks again.")).to_be_visible()
    assert page.url.endswith("/webhooks/orders/R742992701")
    await until(lambda: _more(receiver, acknowledged))
    await gone(shop, endpoint_id)


async def test_a_paused_endpoint_and_one_that_is_down(shop: Shop, admin: Tab) -> None:
    """The timeline of a stock item shows their waiting deliveries."""
    page = admin.page
    found = await shop.pipeline.attempts(endpoint_id_eq=shop.ids["warehouse"], state_eq="failed")
    item = found[0]["stock_item_id"]
    await admin.go(f"/webhooks/go?text={item}")
    if "/stock-items/" not in page.url:  # an endpoint or an attempt has this number too
        await page.get_by_role("link", name=f"Stock item {item}").click()
    paused = page.locator("section.receiver", has_text="Search index")
    await expect(paused.locator(".badge").first).to_have_text("paused")
    await expect(paused).to_contain_text("held until the endpoint is resumed")
    down = page.locator("section.receiver", has_text="Warehouse")
    await expect(down).to_contain_text(re.compile("because the endpoint has been returning 500 since"))
    assert "waiting" not in await page.locator("main").inner_text()
    heights = await page.locator(".badge").evaluate_all("badges => badges.map(one => one.getBoundingClientRect().height)")
    assert max(heights) < 40, "a badge is a badge"
    await admin.look("timeline-stock-item")


async def test_nothing_moves_while_a_page_loads(shop: Shop, admin: Tab) -> None:
    """CLS: late rows, the live state, the suggested time zone and the buttons of scripts shift nothing.

    With a fast connection, a page is rarely painted in parts. So the browser is slowed down, and the test also removes late parts: the
    rest must not move.
    """
    chrome = await admin.page.context.new_cdp_session(admin.page)
    await chrome.send("Emulation.setCPUThrottlingRate", {"rate": 8})
    await admin.page.add_init_script(
        """
        window.shifts = [];
        const named = (node) => node && node.nodeType === 1 ? node.tagName + "." + node.className : String(node && node.nodeName);
        new PerformanceObserver((list) => list.getEntries().forEach((one) => window.shifts.push(
            one.value.toFixed(3) + " " + one.sources.map((each) => named(each.node)).join(", ")
        ))).observe({type: "layout-shift", buffered: true});
        """
    )
    order = (await shop.pipeline.attempts(endpoint_id_eq=shop.ids["erp"], order_number_start="R"))[0]["order_number"]
    moved: list[str] = []
    for width in (1440, 1100, 390):
        await admin.page.set_viewport_size({"width": width, "height": 844})
        for page in (
            f"/orders/{order}",
            "",
            f"/endpoints/{shop.ids['warehouse']}",
            "/endpoints",
            "/endpoints?find=no",
            "/event-types",
            "/attempts",
            "/dead-letters",
            "/keys",
            "/attempts/live?q[event_id_eq]=evt_that_never_comes",  # new rows appear at the top, and shift the rest
        ):
            await admin.go(f"/webhooks{page}")
            await admin.page.wait_for_load_state("load")
            await admin.page.wait_for_timeout(300)
            moved += [f"{page} at {width}: {shift}" for shift in await admin.page.evaluate("window.shifts")]
            if width > 390:  # on a phone, each row is a card
                moved += [f"{page} at {width}, rows: {one}" for one in await admin.page.evaluate(MOVED_BY_WHAT_COMES_LATER)]
    assert "\n".join(moved) == "", "CLS as Chrome shows it"


async def test_a_double_click_sends_once(shop: Shop, admin: Tab) -> None:
    _, endpoint_id = await unreached(shop, "R742992699")
    page = admin.page
    await admin.go("/webhooks/orders/R742992699")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    card = page.locator("section.receiver", has_text="path/R742992699")
    await card.get_by_role("button", name="Resend").dblclick()
    await expect(page.get_by_role("status").first).to_be_visible()
    assert len(sent) == 1, sent
    await gone(shop, endpoint_id)


async def test_bidirectional_control_characters_in_a_name_are_visible(shop: Shop, admin: Tab) -> None:
    receiver = Receiver("bidi")
    shop.pipeline.receivers.append(receiver)
    made = await shop.pipeline.register(await receiver.start(), [EventType.ORDER_COMPLETED], description="Evil \u202egnp.exe")
    await publish(shop, "evt_bidi_name", "R742992700")
    await attempts_of(shop, "evt_bidi_name", 1, endpoint_id_eq=made["id"])
    for path in (
        "/orders/R742992700",
        f"/endpoints/{made['id']}",
        "/endpoints?find=evil",
        "/attempts?q[order_number_eq]=r742992700",
    ):
        await admin.go(f"/webhooks{path}")
        await expect(admin.page.locator("main")).to_contain_text("Evil \\u202egnp.exe")
        assert "\u202e" not in await admin.page.content()
    await gone(shop, made["id"])
