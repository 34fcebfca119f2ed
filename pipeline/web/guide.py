"""``/webhooks/guide``: the guide for integrators, made of ``docs/receiving.md``. It needs no key: it says nothing of anybody's data."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from aiohttp import web

from pipeline.web.event_types_api import event_types
from pipeline.web.markdown import render
from pipeline.web.static_page import StaticPage, fragment, static_page
from schemas.event import EventType

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
    **{f"../schemas/samples/{name}.json": f"#{name}" for name in EventType},
    **{f"{_DIRECTORY}/{language.lower()}/{files[0]}": f"#receiver-{language.lower()}" for language, files in _RECEIVERS.items()},
}


def guide_routes() -> Iterable[web.RouteDef]:
    """The page."""

    async def show(_: web.Request) -> web.Response:
        return guide().response()

    return [web.get("/webhooks/guide", show)]


@functools.cache
def guide() -> StaticPage:
    """The guide, with the samples, the schemas and the example receivers in it."""
    inserts = {
        "events": fragment("guide_events.html", events=_events()),
        "receivers": fragment("guide_receivers.html", receivers=_receivers()),
    }
    document = render(_text("receiving.md"), inserts=inserts, links=_LINKS)
    return static_page("guide.html", ["page.css", "guide.css"], document=document)


def _events() -> list[dict[str, str]]:
    return [
        {
            "name": one.name,
            "description": one.description,
            "sample": json.dumps(one.sample, indent=2, ensure_ascii=False),
            "json_schema": json.dumps(one.json_schema, indent=2, ensure_ascii=False),
        }
        for one in event_types().event_types
    ]


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
    """Where the documents are: packed into an installed package (see pyproject.toml), or where they are written, in a checkout."""
    packed = resources.files("pipeline.web").joinpath("docs")
    return packed if packed.is_dir() else Path(__file__).parents[2] / "docs"
