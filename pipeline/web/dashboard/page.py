"""The declaration of a page: its handler, and the role that it needs.

The application, the authorization and the tests' matrix are built from these declarations. A page cannot exist without a rule, because
there is no other way to add one below ``/webhooks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline.web.routes import Parameter
from schemas.api_key import Access

PREFIX: Final = "/webhooks"
LOGIN: Final = f"{PREFIX}/login"
LOGOUT: Final = f"{PREFIX}/logout"


@dataclass(frozen=True, slots=True)
class DashboardPage:
    """A page below ``/webhooks`` (GET), or the target of a form (POST, which acts and redirects with 303).

    ``access`` is the lowest role that may use it; None means that no login is needed. ``parameters`` are those of its URL,
    ``fields`` those of its form. ``exports``: it returns all results, and refuses unknown parameters.
    """

    method: Literal["GET", "POST"]
    path: str
    handler: Handler
    access: Access | None
    parameters: Sequence[Parameter] = ()
    fields: Sequence[str] = ()
    exports: bool = False

    @property
    def acts(self) -> bool:
        """Whether it does more than read."""
        return self.method == "POST" or self.exports

    @property
    def key(self) -> tuple[str, str]:
        """Method and path, as the router matches them."""
        return self.method, PREFIX + self.path

    def definition(self) -> web.RouteDef:
        """The definition for the router. GET pages answer HEAD too.

        A variable part matches any path segment. aiohttp's default pattern excludes braces, which order numbers may contain.
        """
        path = self.path.replace("}", ":[^/]+}")
        return web.get(path, self.handler) if self.method == "GET" else web.route(self.method, path, self.handler)
