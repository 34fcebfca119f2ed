"""``GET /api/webhook/attempts/export.csv`` and ``.json``: all attempts of a search, as they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final, Literal

from aiohttp import web

from pipeline.ops.logs import logger
from pipeline.web.api.attempts import asked
from pipeline.web.auth import principal_of
from pipeline.web.errors import ApiError
from pipeline.web.export_stream import pages, write_csv, write_json
from pipeline.web.request_values import is_true
from pipeline.web.routes import AFTER, FILTERS, PAGE, Parameter, Route
from pipeline.web.services import AttemptServices
from schemas.api_key import Access
from schemas.audit import AuditAction

log = logger(__name__)

_BODIES: Final = Parameter(
    "bodies",
    "1: include request and response bodies. Needs the operator role, and is recorded in the audit log.",
    {"type": "boolean"},
)

_PAGE: Final = tuple(
    Parameter(
        one.name,
        "Has no effect, because an export contains all pages. Accepted so that you can reuse the query string of a search unchanged.",
        one.schema,
    )
    for one in PAGE
)

_MEDIA_TYPES: Final = {"csv": "text/csv", "json": "application/json"}
EXPORT_PARAMETERS: Final = (_BODIES, AFTER, FILTERS, *_PAGE)


async def export_csv(api: AttemptServices, request: web.Request) -> web.StreamResponse:
    return await export(api, request, "csv")


async def export_json(api: AttemptServices, request: web.Request) -> web.StreamResponse:
    return await export(api, request, "json")


EXPORT_ROUTES: Final[Sequence[Route[AttemptServices]]] = tuple(
    Route(
        "GET",
        f"/webhook/attempts/export.{form}",
        handler,
        Access.VIEWER,
        f"Export the attempts of a search as {form.upper()}",
        {200: _MEDIA_TYPES[form]},
        "Sorted by time and streamed. If something fails along the way, the connection is closed early.",
        parameters=EXPORT_PARAMETERS,
        errors=(422, 503),
        exports=True,
    )
    for form, handler in (("csv", export_csv), ("json", export_json))
)


async def export(
    api: AttemptServices, request: web.Request, form: Literal["csv", "json"], now: datetime | None = None
) -> web.StreamResponse:
    """Answer with all attempts of the search in the query string, as ``csv`` or ``json``. ``now``: see :func:`asked`.

    Raises:
        ApiError: 403, 422 or 503, before anything was sent.
    """
    query = await asked(api, request, now, has_pages=True)
    with_bodies = is_true(request, "bodies")
    if with_bodies:
        if not principal_of(request).role.covers(Access.OPERATOR):
            raise ApiError(403, f"An export with bodies needs a key with the {Access.OPERATOR.value} role.")
        await api.audit.put(request, AuditAction.VIEW_BODY, "export", "request_body, response_body")
    found = pages(api, query, with_bodies=with_bodies)
    chunks = write_csv(found, with_bodies=with_bodies) if form == "csv" else write_json(found)
    # Read two chunks before the status is sent. The first one of a CSV is its header, which needs no query.
    first_chunks = [chunk async for chunk in _first(chunks, 2)]
    response = web.StreamResponse(
        headers={
            "Content-Type": f"{_MEDIA_TYPES[form]}; charset=utf-8",
            "Content-Disposition": f'attachment; filename="attempts.{form}"',
        }
    )
    try:
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        for chunk in first_chunks:
            await response.write(chunk)
        async for chunk in chunks:
            await response.write(chunk)
    except ApiError as error:
        # The status has already been sent. Without the last chunk, the answer is incomplete, and clients report that.
        log.warning("an export was interrupted", error=str(error))
        if request.transport is not None:
            request.transport.close()
    except ConnectionResetError:
        log.info("an export was interrupted", error="the client disconnected")
    return response


async def _first(chunks: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        try:
            yield await anext(chunks)
        except StopAsyncIteration:
            return
