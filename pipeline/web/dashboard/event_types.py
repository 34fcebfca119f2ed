"""``/webhooks/event-types``: all event types with their origin, and the state of those that were added with the API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from aiohttp import web

from pipeline.web.dashboard.page import DashboardPage
from pipeline.web.dashboard.page_renderer import PageRenderer
from pipeline.web.services import EventTypeServices
from schemas.api_key import Access

ORIGINS: Final[Mapping[str, str]] = {"built_in": "built in", "file": "file", "api": "API"}
"""The origins of event types, in words."""


@dataclass(frozen=True, slots=True)
class EventTypeRow:
    """A row of the page. ``topic`` is the name in Kafka. Who changed it last is known only for event types from the API."""

    name: str
    description: str
    topic: str
    versions: Sequence[int]
    origin: str
    endpoints: int
    """How many endpoints subscribe to it."""
    changed_at: datetime | None = None
    changed_by: str = ""


def event_type_pages(renderer: PageRenderer, api: EventTypeServices) -> Iterable[DashboardPage]:
    """The page, below ``/webhooks``."""

    async def index(request: web.Request) -> web.Response:
        catalogue = api.catalogue
        return renderer.show(
            request,
            "event_types.html",
            rows=event_type_rows(api),
            removed=catalogue.removed(),
            unusable=catalogue.unusable(),
            origins=ORIGINS,
        )

    return [DashboardPage("GET", "/event-types", index, Access.VIEWER)]


def event_type_rows(api: EventTypeServices) -> list[EventTypeRow]:
    """The existing event types, in order."""
    types, catalogue = api.events.types, api.catalogue
    subscribed = Counter(name for endpoint in api.registry.all() for name in endpoint.events)
    rows = []
    for one in types.by_name.values():
        origin = catalogue.origin(one.name)
        record = catalogue.get(one.name) if origin == "api" else None
        rows.append(
            EventTypeRow(
                name=one.name,
                description=one.description,
                topic=api.events.topic_of(one.name),
                versions=types.versions(one.name),
                origin=origin,
                endpoints=subscribed[one.name],
                changed_at=record.updated_at if record is not None else None,
                changed_by=record.changed_by if record is not None else "",
            )
        )
    return rows
