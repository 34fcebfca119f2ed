"""Request and response bodies hold customers' data: operators see them, viewers do not, and who saw what is on record."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from pipeline.core.search import AttemptQuery, leaves
from pipeline.web.auth import principal_of
from pipeline.web.errors import ApiError
from pipeline.web.services import CommonServices
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.http.attempts import AttemptDetailAnswer

_BODIES: Final = frozenset({"request_body", "response_body"})


async def show_bodies(api: CommonServices, request: web.Request, detail: AttemptDetailAnswer) -> AttemptDetailAnswer:
    """The attempt as the caller may see it; that an operator saw its bodies is on record."""
    if not principal_of(request).role.covers(Access.OPERATOR):
        return detail.model_copy(update={"request_body": None, "response_body": "", "bodies_hidden": True})
    await api.audit.put(request, AuditAction.VIEW_BODY, f"attempt {detail.id}", f"event {detail.event_id}")
    return detail


async def check_body_search(api: CommonServices, request: web.Request, query: AttemptQuery) -> None:
    """A search in bodies says what is in them: it needs the same role, and is on record (without what was searched for).

    Raises:
        ApiError: 403, the caller may not see bodies.
    """
    searched = sorted({leaf.attribute for one in query.conditions for leaf in leaves(one)} & _BODIES)
    if not searched:
        return
    if not principal_of(request).role.covers(Access.OPERATOR):
        raise ApiError(403, f"Searching in bodies needs a key of the role {Access.OPERATOR.value}.")
    await api.audit.put(request, AuditAction.SEARCH_BODIES, "attempts", ", ".join(searched))
