"""``/webhooks/guide``: the guide for integrators, from ``docs/receiving.md``, with ``/filters`` and ``/authentication`` below it.

It needs no key, because it contains no data.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from aiohttp import web

from pipeline.web.api.event_types import event_types
from pipeline.web.markdown import render
from pipeline.web.static_page import StaticPage, fragment, static_page
from schemas.event import EventType
from schemas.event_types import BUILT_IN, EventTypes
from schemas.http.operations import EventTypeAnswer, EventTypeVersionAnswer

_RECEIVERS: Final = {
    "Python": ("receiver.py", "requirements.txt"),
    "Node": ("receiver.js", "package.json"),
    "Go": ("main.go", "go.mod"),
    "Ruby": ("config.ru", "Gemfile"),
    "PHP": ("receiver.php", "worker.php", "composer.json"),
}
_DIRECTORY: Final = "examples/receivers"
_LINKS: Final = {
    "api.md": "/api/webhook/reference",
    "filters.md": "/webhooks/guide/filters",
    "authentication.md": "/webhooks/guide/authentication",
    "receiving.md#verify-the-signature": "/webhooks/guide#verify-the-signature",
    **{f"../schemas/samples/{name}.json": f"#{name}" for name in EventType},
    **{f"{_DIRECTORY}/{language.lower()}/{files[0]}": f"#receiver-{language.lower()}" for language, files in _RECEIVERS.items()},
}


def guide_routes(types: Callable[[], EventTypes] = lambda: BUILT_IN) -> Iterable[web.RouteDef]:
    """The pages. ``types`` returns the current event types."""

    async def show(_: web.Request) -> web.Response:
        return guide(types()).response()

    async def filters(_: web.Request) -> web.Response:
        return filters_guide().response()

    async def authentication(_: web.Request) -> web.Response:
        return authentication_guide().response()

    return [
        web.get("/webhooks/guide", show),
        web.get("/webhooks/guide/filters", filters),
        web.get("/webhooks/guide/authentication", authentication),
    ]


@functools.lru_cache(maxsize=4)
def guide(types: EventTypes = BUILT_IN) -> StaticPage:
    """The guide, including the samples, the schemas and the example receivers."""
    inserts = {
        "events": fragment("guide_events.html", events=_events(types)),
        "receivers": fragment("guide_receivers.html", receivers=_receivers()),
    }
    document = render(_text("receiving.md"), inserts=inserts, links=_LINKS)
    return static_page("guide.html", ["page.css", "guide.css"], document=document)


@functools.cache
def filters_guide() -> StaticPage:
    """The page about filters."""
    return static_page("guide.html", ["page.css", "guide.css"], document=render(_text("filters.md"), inserts={}, links=_LINKS))


@functools.cache
def authentication_guide() -> StaticPage:
    """The page about authentication and signatures."""
    document = render(_text("authentication.md"), inserts={}, links=_LINKS)
    return static_page("guide.html", ["page.css", "guide.css"], document=document)


def _events(types: EventTypes) -> list[dict[str, object]]:
    return [
        {
            "name": one.name,
            "description": one.description,
            **_texts(one),
            "versions": [{"version": str(earlier.version), **_texts(earlier)} for earlier in reversed(one.versions)],
        }
        for one in event_types(types).event_types
    ]


def _texts(described: EventTypeAnswer | EventTypeVersionAnswer) -> dict[str, object]:
    return {
        "sample": json.dumps(described.sample, indent=2, ensure_ascii=False),
        "json_schema": json.dumps(described.json_schema, indent=2, ensure_ascii=False),
    }


def _receivers() -> list[dict[str, object]]:
    return [
        {
            "language": language,
            "slug": f"receiver-{language.lower()}",
            "files": [(name, _text(f"{_DIRECTORY}/{language.lower()}/{name}")) for name in files],
        }
        for language, files in _RECEIVERS.items()
    ]


def _text(name: str) -> str:
    return _documents().joinpath(*name.split("/")).read_text(encoding="utf-8")


def _documents() -> Traversable:
    """The directory of the documents: inside the package if it is installed (see pyproject.toml), or ``docs`` of the checkout."""
    packed = resources.files("pipeline.web").joinpath("docs")
    return packed if packed.is_dir() else Path(__file__).parents[2] / "docs"
