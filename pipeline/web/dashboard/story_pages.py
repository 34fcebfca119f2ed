"""``/webhooks/orders/{number}``, ``/shipments/{number}``, ``/subscriptions/{number}``: what became of each event, at each endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from pipeline.store.story import About
from pipeline.web.dashboard.desk import Desk
from pipeline.web.dashboard.pages import PREFIX, Page
from pipeline.web.errors import not_found
from pipeline.web.searching import searching
from pipeline.web.stories import Story, tell
from schemas.api_key import Access

_MOST: Final = 255
"""Characters of a number, as the references of an event."""
_MOST_SHIPMENTS: Final = 100
_NAMES: Final[Mapping[About, str]] = {
    About.ORDER: "Order",
    About.SHIPMENT: "Shipment",
    About.SUBSCRIPTION: "Subscription",
}


@dataclass(frozen=True, slots=True)
class View:
    """What the page shows. ``own`` and ``of_shipments`` are the searches of the two links; the latter is None without shipments."""

    name: str
    number: str
    story: Story
    own: str
    of_shipments: str | None
    endpoints: Mapping[int, str]


def story_pages(desk: Desk) -> Iterable[Page]:
    """The pages, below ``/webhooks``."""

    async def show(request: web.Request, about: About) -> web.Response:
        number = request.match_info["number"]
        if len(number) > _MOST or not number.isprintable():
            raise not_found()
        async with searching(desk.api):
            record = await desk.api.search.record_of(about, number)
        story = tell(record)
        view = View(
            name=_NAMES[about],
            number=number,
            story=story,
            own=_search([(f"q[{about.value}_eq]", number)]),
            of_shipments=_of_shipments(story),
            endpoints={endpoint.id: endpoint.target_url for endpoint in desk.api.registry.all()},
        )
        return desk.show(request, "story.html", view=view)

    async def order(request: web.Request) -> web.Response:
        return await show(request, About.ORDER)

    async def shipment(request: web.Request) -> web.Response:
        return await show(request, About.SHIPMENT)

    async def subscription(request: web.Request) -> web.Response:
        return await show(request, About.SUBSCRIPTION)

    return [
        Page("GET", "/orders/{number}", order, Access.VIEWER),
        Page("GET", "/shipments/{number}", shipment, Access.VIEWER),
        Page("GET", "/subscriptions/{number}", subscription, Access.VIEWER),
    ]


def _of_shipments(story: Story) -> str | None:
    numbers = story.shipment_numbers[:_MOST_SHIPMENTS]
    return _search([("q[shipment_number_in][]", number) for number in numbers]) if numbers else None


def _search(pairs: list[tuple[str, str]]) -> str:
    return f"{PREFIX}/attempts?{urlencode(pairs)}"
