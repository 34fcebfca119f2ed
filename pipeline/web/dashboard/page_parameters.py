"""Checks the parameters and fields of a request against the page's declaration, by the same rules as in the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pipeline.core.search.problems import shown
from pipeline.web.auth import declared
from pipeline.web.dashboard.auth_middleware import CSRF_FIELD, form_of
from pipeline.web.dashboard.page import DashboardPage
from pipeline.web.declared_parameters import ParameterProblem, findings, settle
from pipeline.web.routes import STRICT

_NO_FIELD: Final = "unknown field"


def check_page_parameters(pages: Mapping[tuple[str, str], DashboardPage]) -> Middleware:
    """A middleware that runs after authentication. Pages report unknown parameters; forms and exports refuse them."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        page = declared(request, pages)
        if page is not None:
            found = findings((*page.parameters, STRICT), request.query.items())
            if page.method == "POST":
                found += [
                    ParameterProblem(shown(name), _NO_FIELD)
                    for name in form_of(request)
                    if name not in {CSRF_FIELD, *page.fields}
                ]
            settle(request, found, acts=page.acts)
        return await handler(request)

    return middleware
