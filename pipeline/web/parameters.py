"""Parameters, checked against what a route or a page declares: before the handler runs, and by one rule for all.

A parameter that nobody knows must not look like one that has an effect: ``q[endpoint_id_eq]=11&order_number_eq=R100`` is a wider
search than the one that was meant. A read reports it; what sends, exports or changes something refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pipeline.core.search.keys import is_filter_key
from pipeline.core.search.notes import shown
from pipeline.web.auth import declared
from pipeline.web.errors import InvalidError
from pipeline.web.queries import FALSY, IGNORED, IS_STRICT, TRUTHY, read_body
from pipeline.web.routes import STRICT, Parameter, Route

_MOST: Final = 50
"""Findings that are told of one request."""
_NOTHING: Final = frozenset({b"", b"{}", b"null"})
_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
_FILTERS: Final = "q"
_BODY: Final = "body"
_IS_NO_FILTER: Final = re.compile(
    r"\[?q\]?[\[.(]|filters?\b|.*_(eq|in|cont|lt|gt|lteq|gteq|start|end|null|present)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a parameter. ``is_blank``: it has no value, which a form means nothing by."""

    name: str
    reason: str
    is_blank: bool = False

    @property
    def note(self) -> str:
        """For ``ignored_filters``."""
        return f"{self.name}: {self.reason}"


def check_parameters(routes: Mapping[tuple[str, str], Route]) -> Middleware:
    """A middleware that reports or refuses what a route does not know, and adds what it reported to the answer."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = declared(request, routes)
        if route is None:
            return await handler(request)
        found = findings((*route.parameters, STRICT), request.query.items())
        if route.body is None and (await read_body(request)).strip() not in _NOTHING:
            found.append(Finding(_BODY, "this request takes no body; its parameters stand in the query string"))
        settle(request, found, acts=route.acts)
        response = await handler(request)
        return _telling(response, request.get(IGNORED, []), has_document=isinstance(route.answers.get(200), str))

    return middleware


def settle(request: web.Request, found: Sequence[Finding], *, acts: bool) -> None:
    """Refuse the findings, or keep them for the answer.

    Raises:
        InvalidError: there are some, and the request acts or is strict; or ``strict`` is neither yes nor no.
    """
    asked = [value.strip() for value in request.query.getall(STRICT.name, ())]
    request[IS_STRICT] = acts or any(value in TRUTHY for value in asked)
    is_unclear = any(value and value not in TRUTHY | FALSY for value in asked)
    refused = found if request[IS_STRICT] or is_unclear else ()
    if refused:
        errors: dict[str, list[str]] = {}
        for one in refused[:_MOST]:
            errors.setdefault(one.name, []).append(f"{one.reason}.")
        raise InvalidError(errors)
    request[IGNORED] = [one.note for one in found if not one.is_blank][:_MOST]


def findings(known: Sequence[Parameter], pairs: Iterable[tuple[str, str]]) -> list[Finding]:
    """What is wrong with the pairs of a query string. What stands below ``q`` is the search's business."""
    by_name = {one.name: one for one in known if one.place == "query"}
    has_filters = _FILTERS in by_name
    found: dict[Finding, None] = {}
    seen: set[str] = set()
    for key, value in pairs:
        if has_filters and is_filter_key(key):
            continue
        name = key.strip()
        parameter = by_name.get(name)
        if parameter is None or parameter.style != "form":
            found[Finding(shown(key) or "''", _unknown(key, by_name))] = None
        elif name in seen:
            found[Finding(name, "it is given more than once, and only the last one counts")] = None
        elif not value.strip():
            found[Finding(name, "it has no value; give it one, or leave it out", is_blank=True)] = None
        elif reason := _unfit(parameter, value.strip()):
            found[Finding(name, reason)] = None
        seen.add(name)
    return list(found)


def _unknown(key: str, known: Mapping[str, Parameter]) -> str:
    if _FILTERS in known and _IS_NO_FILTER.match(key.strip()):
        return "there is no such parameter; filters look like q[order_number_eq]=R1"
    names = ", ".join(one for one in known if one != STRICT.name)
    return f"there is no such parameter here; there is {names}" if names else "there is no such parameter here"


def _unfit(parameter: Parameter, value: str) -> str | None:
    """Why a value is not of the parameter's type; None when it is."""
    match parameter.schema.get("type"):
        case "boolean" if value not in TRUTHY | FALSY:
            return f"{shown(value)} is neither 1 nor 0"
        case "integer" if not _NUMBER.fullmatch(value):
            return f"{shown(value)} is not a whole number"
    return None


def _telling(response: web.StreamResponse, notes: Sequence[str], *, has_document: bool) -> web.StreamResponse:
    """The answer with what was left out: in ``ignored_filters`` of a JSON answer; a document of another kind stays as it is."""
    if not notes or has_document or not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    content: Any = msgspec.json.decode(response.body)
    if isinstance(content, dict):
        content["ignored_filters"] = [*notes, *content.get("ignored_filters", ())]
        response.body = msgspec.json.encode(content)
    return response
