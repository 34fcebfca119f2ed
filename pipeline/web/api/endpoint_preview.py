"""``POST /api/webhook/endpoints/preview``: what an endpoint with these events and filters would have received."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from pipeline.web.api.wrapped_input import parse_wrapped, validated
from pipeline.web.filter_check import CompilablePreviewInput
from pipeline.web.filter_preview import preview
from pipeline.web.request_values import read_body
from pipeline.web.responses import answer
from pipeline.web.routes import Route
from pipeline.web.services import PreviewServices
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.event_types import EventTypes
from schemas.http.previews import PreviewAnswer, PreviewBody

_WRAPPER: Final = (
    'Say what to look for: {"preview": {"events": ["order_completed"], "filters": ["data.channel == \\"spree\\""], "days": 7}}.'
)


async def show(api: PreviewServices, request: web.Request) -> web.Response:
    given = parse_wrapped(
        await read_body(request),
        "preview",
        CompilablePreviewInput,
        hint=_WRAPPER,
        required=("events",),
        types=api.events.types,
    )
    return answer(await audited_preview(api, request, given))


PREVIEW_ROUTES: Final[Sequence[Route[PreviewServices]]] = (
    Route(
        "POST",
        "/webhook/endpoints/preview",
        show,
        Access.ADMIN,
        "Preview what an endpoint would have received",
        {200: PreviewAnswer},
        "Nothing is registered and nothing is sent. The events of the last days are matched as new events are, "
        "newest first, up to 50,000 of them or for 15 seconds. The response says which time it covers.",
        body=PreviewBody,
        errors=(503,),
    ),
)


def checked_preview(values: Mapping[str, object], types: EventTypes) -> CompilablePreviewInput:
    """The same input, from a form.

    Raises:
        InvalidError: a field has a wrong value.
    """
    return validated(values, CompilablePreviewInput, ("events",), types)


async def audited_preview(api: PreviewServices, request: web.Request, given: CompilablePreviewInput) -> PreviewAnswer:
    """Record the preview in the audit log, then count. Filters reveal the content of bodies, like a search in bodies."""
    await api.audit.put(request, AuditAction.SEARCH_BODIES, "events", "preview of filters")
    return await preview(api, given)
