"""Checks parameters against the declaration of a route or page, before the handler runs.

An unknown parameter must not be ignored silently: ``q[endpoint_id_eq]=11&order_number_eq=R100`` is a wider search than
the user meant. A read reports it in its answer. A request that sends, exports or changes something is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from pipeline.core.search.problems import shown
from pipeline.core.search.query_keys import is_filter_key
from pipeline.web.auth import declared
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.request_values import FALSY, IGNORED, IS_STRICT, TRUTHY, read_body
from pipeline.web.routes import IF_MATCH, STRICT, Parameter, Route

_MOST: Final = 50
"""The most findings to report for one request."""
_NOTHING: Final = frozenset({b"", b"{}", b"null"})
_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
_FORMS: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
_FILTERS: Final = "q"
_BODY: Final = "body"
_IS_NO_FILTER: Final = re.compile(
    r"\[?q\]?[\[.(]|filters?\b|.*_(eq|in|cont|lt|gt|lteq|gteq|start|end|null|present)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ParameterProblem:
    """A problem with a parameter. ``is_blank``: it has no value, which has no meaning in a form."""

    name: str
    reason: str
    is_blank: bool = False

    @property
    def note(self) -> str:
        """For ``ignored_filters``."""
        return f"{self.name}: {self.reason}"


def check_parameters(routes: Mapping[tuple[str, str], Route[Any]]) -> Middleware:
    """A middleware that reports or refuses parameters that the route does not declare. Reports are added to the answer."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = declared(request, routes)
        if route is None:
            return await handler(request)
        await _check_media_type(request)
        found = findings((*route.parameters, STRICT), request.query.items())
        if route.body is None and (await read_body(request)).strip() not in _NOTHING:
            found.append(ParameterProblem(_BODY, "this request takes no body; send its parameters in the query string"))
        if route.method != "GET" and hdrs.IF_MATCH in request.headers and IF_MATCH not in route.parameters:
            found.append(ParameterProblem(hdrs.IF_MATCH, "it has no effect here; only changes to a single endpoint support it"))
        settle(request, found, acts=route.acts)
        response = await handler(request)
        return _with_ignored_filters(response, request.get(IGNORED, []), has_document=isinstance(route.answers.get(200), str))

    return middleware


async def _check_media_type(request: web.Request) -> None:
    """Refuse bodies whose headers say that they are not plain JSON. Without such headers, the body is read as JSON.

    JSON that is labeled as a form is accepted, because curl labels every body like that.

    Raises:
        ApiError: 415, the body is compressed, or a form.
    """
    if not request.can_read_body:
        return
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    if encoding not in ("", "identity"):
        raise ApiError(
            415,
            f"The body is compressed ({shown(encoding)}). Send it uncompressed, without Content-Encoding.",
            headers={hdrs.ACCEPT_ENCODING: "identity"},
        )
    if request.content_type in _FORMS and not (await read_body(request)).lstrip().startswith(b"{"):
        raise ApiError(
            415,
            f"The body is a form ({request.content_type}). Send JSON, with Content-Type: application/json.",
            headers={hdrs.ACCEPT: "application/json"},
        )


def settle(request: web.Request, found: Sequence[ParameterProblem], *, acts: bool) -> None:
    """Refuse the findings, or keep them for the answer.

    Raises:
        InvalidError: there are findings, and the request acts or is strict, or the value of ``strict`` is not a boolean.
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


def findings(known: Sequence[Parameter], pairs: Iterable[tuple[str, str]]) -> list[ParameterProblem]:
    """Problems with the pairs of a query string. The search checks the filters (``q``) itself."""
    by_name = {one.name: one for one in known if one.place == "query"}
    has_filters = _FILTERS in by_name
    found: dict[ParameterProblem, None] = {}
    seen: set[str] = set()
    for key, value in pairs:
        if has_filters and is_filter_key(key):
            continue
        name = key.strip()
        parameter = by_name.get(name)
        if parameter is None or parameter.style != "form":
            found[ParameterProblem(shown(key) or "''", _unknown(key, by_name))] = None
        elif name in seen:
            found[ParameterProblem(name, "it is given more than once; only the last value is used")] = None
        elif not value.strip():
            found[ParameterProblem(name, "it has no value; give it one, or leave it out", is_blank=True)] = None
        elif reason := _unfit(parameter, value.strip()):
            found[ParameterProblem(name, reason)] = None
        seen.add(name)
    return list(found)


def _unknown(key: str, known: Mapping[str, Parameter]) -> str:
    if _FILTERS in known and _IS_NO_FILTER.match(key.strip()):
        return "unknown parameter; filters look like q[order_number_eq]=R1"
    names = ", ".join(one for one in known if one != STRICT.name)
    return "unknown parameter" + (f"; known parameters: {names}" if names else "")


def _unfit(parameter: Parameter, value: str) -> str | None:
    """Why a value does not have the parameter's type. None if it does."""
    match parameter.schema.get("type"):
        case "boolean" if value not in TRUTHY | FALSY:
            return f"{shown(value)} is neither 1 nor 0"
        case "integer" if not _NUMBER.fullmatch(value):
            return f"{shown(value)} is not a whole number"
    return None


def _with_ignored_filters(response: web.StreamResponse, notes: Sequence[str], *, has_document: bool) -> web.StreamResponse:
    """The answer with the notes in its ``ignored_filters``. Answers other than JSON objects are not changed."""
    if not notes or has_document or not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    content: Any = msgspec.json.decode(response.body)
    if isinstance(content, dict):
        content["ignored_filters"] = [*notes, *content.get("ignored_filters", ())]
        response.body = msgspec.json.encode(content)
    return response
