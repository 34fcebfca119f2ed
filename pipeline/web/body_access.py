"""Access to request and response bodies, which contain customer data: only for operators, and recorded in the audit log."""

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
    """The attempt as the caller may see it. If the bodies are shown, that is recorded."""
    if not principal_of(request).role.covers(Access.OPERATOR):
        return detail.model_copy(update={"request_body": None, "response_body": "", "bodies_hidden": True})
    await api.audit.put(request, AuditAction.VIEW_BODY, f"attempt {detail.id}", f"event {detail.event_id}")
    return detail


async def check_body_search(api: CommonServices, request: web.Request, query: AttemptQuery) -> None:
    """A search in bodies reveals their content, so it needs the same role and is recorded (without the search terms).

    Raises:
        ApiError: 403, the caller may not see bodies.
    """
    searched = sorted({leaf.attribute for one in query.conditions for leaf in leaves(one)} & _BODIES)
    if not searched:
        return
    if not principal_of(request).role.covers(Access.OPERATOR):
        raise ApiError(403, f"Searching in bodies needs a key with the {Access.OPERATOR.value} role.")
    await api.audit.put(request, AuditAction.SEARCH_BODIES, "attempts", ", ".join(searched))
