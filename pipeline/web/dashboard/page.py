"""The one declaration of a page: what makes it, and who may see it or send it.

The application, the authorisation and the tests' matrix are made of these. A page without a rule does not exist: there is no other
way to add one below ``/webhooks``.
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


@dataclass(frozen=True, slots=True)
class DashboardPage:
    """A page below ``/webhooks`` (GET), or what a form of one is sent to (POST: does its work, and redirects with 303).

    ``access`` is the least role that may; None means that nobody needs to be logged in. ``parameters`` are those of its address,
    ``fields`` those of the form that is sent to it. ``exports``: it hands out all that it finds, and refuses what it does not understand.
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
        """Whether it does more than look."""
        return self.method == "POST" or self.exports

    @property
    def key(self) -> tuple[str, str]:
        """Method and path, as the router matches them."""
        return self.method, PREFIX + self.path

    def definition(self) -> web.RouteDef:
        """As the router takes it. A GET answers HEAD too.

        Parts of the path are whatever a segment may hold: aiohttp's own rule leaves out braces, and numbers of orders may have them.
        """
        path = self.path.replace("}", ":[^/]+}")
        return web.get(path, self.handler) if self.method == "GET" else web.route(self.method, path, self.handler)
