"""Takes pictures of the dashboard of a simulated shop: each page on three screens, in light and dark mode.

    python -m tests.browser.pictures                # all of them, whole pages, to var/screenshots
    python -m tests.browser.pictures --docs         # the five of the documentation, to docs/images
    python -m tests.browser.pictures --only order   # one page

Needs Debian's Chromium. Fails like the browser tests: if axe finds something serious, if a page is wider than its screen, or if the browser's
console shows an error.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from axe_playwright_python.async_playwright import Axe

from pipeline.devtools.local_broker import TansuBroker
from pipeline.devtools.receiver import Behaviour
from pipeline.ops.logs import configure_logs
from schemas.event import EventType
from tests.browser.chromium import SCREENSHOTS, Tab, launched, tab_of
from tests.browser.conftest import log_in
from tests.browser.shop import Shop, open_shop
from tests.browser.test_attempts import attempts_of, publish
from tests.integration.conftest import API_KEY

_DOCS: Final = Path(__file__).resolve().parents[2] / "docs" / "images"
ORDER: Final = "R742992696"
_SCREENS: Final[Mapping[str, tuple[int, int]]] = {"desktop": (1440, 900), "laptop": (1100, 800), "phone": (390, 844)}
Colours = Literal["light", "dark"]
_COLOURS: Final[Sequence[Colours]] = ("light", "dark")
_OF_DOCS: Final[Mapping[str, Colours]] = {
    "order": "light",
    "attempts": "dark",
    "attempt": "light",
    "endpoints": "light",
    "overview": "dark",
}
"""The pages that the documentation shows, each in light or dark mode."""


async def an_order_in_trouble(shop: Shop) -> str:
    """Create an order that one system refuses and another acknowledges at the second attempt; returns the failed attempt's path."""
    await shop.endpoint("ledger", Behaviour(fail_rate=1.0, status=500), (EventType.ORDER_COMPLETED,), "Ledger")
    await shop.endpoint("loyalty", Behaviour(fail_first=1, status=503), (EventType.ORDER_COMPLETED,), "Loyalty points")
    await publish(shop, f"evt_{ORDER}", ORDER, email="grace.hopper@example.com")
    await attempts_of(shop, f"evt_{ORDER}", 3, endpoint_id_eq=shop.ids["ledger"])
    await attempts_of(shop, f"evt_{ORDER}", 2, endpoint_id_eq=shop.ids["loyalty"])
    await shop.pipeline.producer.send(
        shop.pipeline.settings.topics.orders, key=b"R1", value=b'{"id": "evt_broken", "event_name" "order_completed"}'
    )
    failed = await shop.pipeline.attempts(event_id_eq=f"evt_{ORDER}", endpoint_id_eq=shop.ids["loyalty"], state_eq="failed")
    return f"/webhooks/attempts/{failed[0]['id']}"


def pages(shop: Shop, attempt: str) -> Mapping[str, str]:
    """Return the address of each page, by the name of its pictures."""
    return {
        "overview": "/webhooks",
        "order": f"/webhooks/orders/{ORDER}",
        "attempts": "/webhooks/attempts",
        "attempts-failed": "/webhooks/attempts?q[state_eq]=failed",
        "attempts-body": "/webhooks/attempts?q[request_body_cont]=grace.hopper",
        "attempts-none": "/webhooks/attempts?q[order_number_eq]=R1",
        "attempt": attempt,
        "attempts-live": "/webhooks/attempts/live",
        "endpoints": "/webhooks/endpoints",
        "endpoint": shop.page("warehouse"),
        "endpoint-new": "/webhooks/endpoints/new",
        "endpoint-pause": f"{shop.page('mailer')}/pause",
        "dead-letters": "/webhooks/dead-letters?q[repaired_eq]=false",
        "resend-new": "/webhooks/resends/new?q[state_eq]=failed",
        "resends": "/webhooks/resends",
        "event-types": "/webhooks/event-types",
        "keys": "/webhooks/keys",
        "go": "/webhooks/go?text=shop",
        "guide": "/webhooks/guide",
        "order-none": "/webhooks/orders/R1",
        "not-found": "/webhooks/endpoints/999999",
    }


async def take(tab: Tab, name: str, *, for_docs: bool) -> None:
    """Take pictures of the tab's page: the whole page on each screen; for the documentation, only the visible part."""
    to = _DOCS if for_docs else SCREENSHOTS
    for screen, (width, height) in _SCREENS.items():
        if for_docs and screen == "laptop":
            continue
        await tab.page.set_viewport_size({"width": width, "height": height})
        for colours in (_OF_DOCS[name],) if for_docs else _COLOURS:
            await tab.page.emulate_media(color_scheme=colours, reduced_motion="reduce")
            await tab.page.screenshot(path=to / f"{name}-{screen}-{colours}.png", full_page=not for_docs)
        overflow = await tab.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{name}, {screen}: the page is {overflow} pixels wider than the screen"
        found = await Axe().run(tab.page)
        grave = [one["id"] for one in found.response["violations"] if one["impact"] in ("serious", "critical")]
        assert not grave, f"{name}, {screen}: axe finds {', '.join(grave)}"


async def main(arguments: argparse.Namespace) -> None:
    """Open the shop, and take the pictures."""
    broker = TansuBroker()
    await asyncio.to_thread(broker.start)
    try:
        async with open_shop(broker.bootstrap_servers, f"t{secrets.token_hex(4)}.", apache=False) as shop, launched() as browser:
            addresses = pages(shop, await an_order_in_trouble(shop))
            async with tab_of(browser, shop.url) as tab:
                await log_in(tab, API_KEY)
                tab.expected.add(404)
                for name, address in addresses.items():
                    if name in _OF_DOCS if arguments.docs else name.startswith(arguments.only):
                        await tab.go(address)
                        await take(tab, name, for_docs=arguments.docs)
    finally:
        await asyncio.to_thread(broker.stop)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="only the pictures of the documentation, as large as a screen")
    parser.add_argument("--only", default="", help="the pages whose names begin so")
    return parser.parse_args()


if __name__ == "__main__":
    configure_logs("warning", "console")
    asyncio.run(main(parsed()))
