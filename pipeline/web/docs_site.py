"""``/docs``: the documentation site that ``make docs`` builds. It needs no key, because it contains no data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from aiohttp import web

from pipeline.web.errors import NOT_FOUND, ApiError

SITE: Final = Path(__file__).with_name("site")
_POLICY: Final = (
    # The generator puts scripts and styles into its pages. The pages contain no user input, and need no cookie.
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)

_NOT_BUILT: Final = "This installation has no documentation site. Run `make docs`, or read the files in docs/."


@cache
def has_docs() -> bool:
    """Whether this installation has the site."""
    return SITE.joinpath("index.html").is_file()


@cache
def _files(site: Path) -> Mapping[str, Path]:
    return {file.relative_to(site).as_posix(): file for file in site.rglob("*") if file.is_file()}


def docs_routes(site: Path = SITE) -> Iterable[web.RouteDef]:
    """The pages of the site, below ``/docs``. Only files that existed when the process started are served, by exact name."""
    files = _files(site)

    async def show(request: web.Request) -> web.StreamResponse:
        file = files.get(request.match_info["path"])
        if file is None:
            raise ApiError(404, NOT_FOUND if files else _NOT_BUILT)
        return web.FileResponse(file, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "max-age=300"})

    async def to_the_first_page(_: web.Request) -> web.Response:
        return web.Response(status=303, headers={"Location": "/docs/index.html"})

    return [web.get("/docs", to_the_first_page), web.get("/docs/", to_the_first_page), web.get("/docs/{path:.+}", show)]
