"""The declaration of a route: its handler, the role that it needs, its input and its answers.

The application, the authorization, the OpenAPI document and the tests' matrix are built from these declarations. A route cannot exist
without a rule, because there is no other way to add one below ``/api``.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel

from pipeline.core.trace import TraceContext
from schemas.api_key import Access

ServicesT_contra = TypeVar("ServicesT_contra", contravariant=True)
"""The services that a handler needs (services.py)."""
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Models = type[BaseModel] | tuple[type[BaseModel], ...] | str | None
"""The body of an answer: a model, one of several, a media type other than JSON, or no body."""

PREFIX: Final = "/api"
PUBLISHED: Final = "/v1"
"""Prefix of the OMS's published API. All routes are also served below it."""
SLASH: Final = "/"
"""Every path may end with it, because some clients add it."""
TRACE: Final = web.RequestKey("trace", TraceContext)
"""The trace context of a request, if tracing is on."""


def is_of_the_api(path: str) -> bool:
    """Whether a path, or the template of a route, is one of the API, with either prefix."""
    return path.startswith((f"{PREFIX}/", f"{PUBLISHED}{PREFIX}/"))


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query string, or a request header. ``schema`` is JSON Schema."""

    name: str
    description: str
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})
    place: Literal["query", "header"] = "query"
    style: Literal["form", "deepObject"] = "form"


@dataclass(frozen=True, slots=True)
class Route(Generic[ServicesT_contra]):
    """A route below ``/api``. ``access`` is the lowest role that may use it; None means that no key is needed.

    ``errors`` are its specific error statuses. :meth:`refusals` adds the general ones (401, 403, 404, 413, 415, 422, …).
    """

    method: Method
    path: str
    handler: Callable[[ServicesT_contra, web.Request], Awaitable[web.StreamResponse]]
    access: Access | None
    summary: str
    answers: Mapping[int, Models]
    description: str = ""
    body: type[BaseModel] | None = None
    parameters: Sequence[Parameter] = ()
    errors: Sequence[int] = ()
    exports: bool = False
    """A GET that returns all results. Unknown parameters are refused, as in requests that send or change something."""
    id_schema: Mapping[str, object] = field(default_factory=lambda: {"type": "integer", "minimum": 0, "maximum": 2**53 - 1})
    """The JSON Schema of ``{id}`` in the path."""

    @property
    def key(self) -> tuple[str, str]:
        """Method and path, as the router matches them."""
        return self.method, PREFIX + self.path

    @property
    def acts(self) -> bool:
        """Whether it does more than read. Then an unknown or empty parameter is an error (422)."""
        return self.method != "GET" or self.exports

    def refusals(self) -> list[int]:
        """Every status of 400 and above that the route may answer with."""
        found = {422, *self.errors}  # 422: an unknown parameter
        if self.access is not None:
            found |= {401, 403, 429}
        if "{" in self.path:
            found.add(404)
        if self.body is not None:
            found |= {400, 413, 415}
        return sorted(found)

    def definitions(self, services: ServicesT_contra) -> Iterable[web.RouteDef]:
        """The definitions for the router, with and without a slash at the end. GET routes answer HEAD too."""
        # ``preview`` is not an id: with a wrong method it is answered with 405, not with 404. But an event type may have this name.
        is_name = self.path.startswith("/webhook/event_types/")
        path = self.path if is_name else self.path.replace("{id}", "{id:(?!preview/?$)[^/]+}")
        handler = functools.partial(self.handler, services)
        for each in (path, path + SLASH):
            if self.method == "GET":
                yield web.get(each, handler)
            else:
                yield web.route(self.method, each, handler)


PAGE: Final = (
    Parameter("page", "Page number, starting at 1.", {"type": "integer", "minimum": 1, "default": 1}),
    Parameter("per_page", "Number of items per page.", {"type": "integer", "minimum": 1, "maximum": 200, "default": 25}),
)
AFTER: Final = Parameter("after", "The next_cursor of the previous page. Needs the same filters, and sorting by created_at only.")
STRICT: Final = Parameter(
    "strict", "1: treat a filter or parameter that would be ignored, or that has no value, as an error.", {"type": "boolean"}
)
"""Every route accepts it. Requests that send, export or change something are always strict."""
FILTERS: Final = Parameter(
    "q",
    "Filters in the ransack grammar, such as q[order_number_eq]=R1 and q[s]=created_at desc.",
    {"type": "object", "additionalProperties": {"type": "string"}},
    style="deepObject",
)
IF_MATCH: Final = Parameter(
    "If-Match", "The ETag of the version to change. The response is 412 if the endpoint has changed since then.", place="header"
)
