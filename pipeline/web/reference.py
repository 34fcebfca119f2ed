"""The reference of the API: the OpenAPI document, and a page rendered from it. Both are public, because they contain no data."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import groupby
from typing import Any

from aiohttp import web

from pipeline.web.openapi import openapi, operation_id, tag
from pipeline.web.routes import PREFIX, Route
from pipeline.web.services import CommonServices
from pipeline.web.static_page import StaticPage, static_page


def reference_routes(routes: Callable[[], Sequence[Route[Any]]]) -> Iterable[Route[CommonServices]]:
    """The routes of the reference. ``routes`` returns all routes of the API, including these."""

    @functools.lru_cache(maxsize=4)
    def document(names: Sequence[str]) -> dict[str, Any]:
        return openapi(routes(), version("oms-webhooks"), names)

    @functools.lru_cache(maxsize=4)
    def page(names: Sequence[str]) -> StaticPage:
        return _page(routes(), document(names))

    async def show_document(api: CommonServices, _: web.Request) -> web.Response:
        return web.json_response(document(tuple(api.events.types.names)), headers={"Cache-Control": "public, max-age=300"})

    async def show_page(api: CommonServices, _: web.Request) -> web.Response:
        return page(tuple(api.events.types.names)).response()

    return [
        Route("GET", "/webhook/openapi.json", show_document, None, "This API as OpenAPI 3.1", {200: "application/json"}),
        Route("GET", "/webhook/reference", show_page, None, "This API as a page", {200: "text/html"}),
    ]


def _page(routes: Sequence[Route[Any]], document: dict[str, Any]) -> StaticPage:
    groups = [(name, [_shown(route, document) for route in of_tag]) for name, of_tag in groupby(routes, tag)]
    return static_page("reference.html", ["page.css"], info=document["info"], groups=groups, schemas=_texts(document))


def _shown(route: Route[Any], document: dict[str, Any]) -> dict[str, Any]:
    operation = document["paths"][PREFIX + route.path][route.method.lower()]
    return {
        "id": operation_id(route),
        "method": route.method,
        "path": PREFIX + route.path,
        "operation": operation,
        "role": route.access.value if route.access else "no key",
        "body": _models(operation.get("requestBody", {})),
        "answers": [(status, one["description"], _models(one)) for status, one in sorted(operation["responses"].items())],
    }


def _models(described: dict[str, Any]) -> list[str]:
    """The names of the models of a body."""
    schemas = [content.get("schema", {}) for content in described.get("content", {}).values()]
    references = [one for schema in schemas for one in schema.get("anyOf", [schema])]
    return [one["$ref"].rpartition("/")[2] for one in references if "$ref" in one]


def _texts(document: dict[str, Any]) -> dict[str, str]:
    schemas = document["components"]["schemas"]
    return {name: json.dumps(schemas[name], indent=2, ensure_ascii=False) for name in sorted(schemas)}
