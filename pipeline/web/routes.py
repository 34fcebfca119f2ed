"""The declaration of a route: its handler, the role that it needs, its input and its answers.

The application, the authorization, the OpenAPI document and the tests' matrix are built from these declarations. A route cannot exist
without a rule, because there is no other way to add one below ``/api``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel

from pipeline.core.trace import TraceContext
from schemas.api_key import Access

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Models = type[BaseModel] | tuple[type[BaseModel], ...] | str | None
"""The body of an answer: a model, one of several, a media type other than JSON, or none at all."""

PREFIX: Final = "/api"
PUBLISHED: Final = "/v1"
"""What stands before that in the OMS's published API: everything is there too, and means the same."""
SLASH: Final = "/"
"""What may stand at the end of every path: some clients write it, and it means nothing."""
TRACE: Final = web.RequestKey("trace", TraceContext)
"""Where a request stands in a trace, when there are traces."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the query string, or a request header. ``schema`` is JSON Schema."""

    name: str
    description: str
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})
    place: Literal["query", "header"] = "query"
    style: Literal["form", "deepObject"] = "form"


@dataclass(frozen=True, slots=True)
class Route:
    """A route below ``/api``. ``access`` is what a key must be allowed at least; None means that no key is needed.

    ``errors`` are the refusals of its own; those that come of its shape (401, 403, 404, 413, 415, 422, …) are added by
    :meth:`refusals`.
    """

    method: Method
    path: str
    handler: Handler
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
    """What ``{id}`` in the path looks like."""

    @property
    def key(self) -> tuple[str, str]:
        """Method and path, as the router matches them."""
        return self.method, PREFIX + self.path

    @property
    def acts(self) -> bool:
        """Whether it does more than read. Then an unknown or empty parameter is an error (422)."""
        return self.method != "GET" or self.exports

    def refusals(self) -> list[int]:
        """Every status of 400 and above that the route answers."""
        found = {422, *self.errors}  # a parameter that it does not know
        if self.access is not None:
            found |= {401, 403, 429}
        if "{" in self.path:
            found.add(404)
        if self.body is not None:
            found |= {400, 413, 415}
        return sorted(found)

    def definitions(self) -> Iterable[web.RouteDef]:
        """As the router takes it, with and without a slash at its end. A GET answers HEAD too."""
        # ``preview`` is not an id: with another method than its own it is a 405, not an endpoint that was not found.
        path = self.path.replace("{id}", "{id:(?!preview/?$)[^/]+}")
        for each in (path, path + SLASH):
            if self.method == "GET":
                yield web.get(each, self.handler)
            else:
                yield web.route(self.method, each, self.handler)


PAGE: Final = (
    Parameter("page", "Page, from 1.", {"type": "integer", "minimum": 1, "default": 1}),
    Parameter("per_page", "Number of items per page.", {"type": "integer", "minimum": 1, "maximum": 200, "default": 25}),
)
AFTER: Final = Parameter(
    "after", "The next_cursor of the previous page. Needs the same filters, and sorting by created_at alone."
)
STRICT: Final = Parameter(
    "strict", "1: treat a filter or parameter that would be ignored, or that has no value, as an error.", {"type": "boolean"}
)
"""Every route takes it; where something is sent, exported or changed, requests are strict without it."""
FILTERS: Final = Parameter(
    "q",
    "Filters in the ransack grammar, such as q[order_number_eq]=R1 and q[s]=created_at desc.",
    {"type": "object", "additionalProperties": {"type": "string"}},
    style="deepObject",
)
IF_MATCH: Final = Parameter(
    "If-Match", "The ETag of the version to change. If the endpoint has another version now, the answer is 412.", place="header"
)
