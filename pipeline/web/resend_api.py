"""``POST /api/webhook/attempts/{id}/resend``: send a notification again, as it was."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web

from pipeline.core.trace import TraceContext
from pipeline.endpoints.endpoint import Endpoint
from pipeline.store.search import AttemptRow
from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.audit import Asker, asker
from pipeline.web.endpoint_changes import require_endpoints
from pipeline.web.errors import not_found
from pipeline.web.queries import path_id
from pipeline.web.resending import send_again
from pipeline.web.routes import TRACE, Route
from pipeline.web.searching import searching
from schemas.api_key import Access
from schemas.http_operations import ResendAnswer


def resend_routes(api: Api) -> Iterable[Route]:
    """The route, below ``/api``."""

    async def resend(request: web.Request) -> web.Response:
        attempt, endpoint = await resend_attempt(api, asker(api, request), path_id(request), request.get(TRACE))
        return answer(
            ResendAnswer(
                event_id=attempt.event_id,
                event_name=attempt.event_name,
                endpoint_id=endpoint.id,
                target_url=endpoint.target_url,
            ),
            202,
        )

    return [
        Route(
            "POST",
            "/webhook/attempts/{id}/resend",
            resend,
            Access.OPERATOR,
            "Send a notification again",
            {202: ResendAnswer},
            "To the endpoint as it is now, subscribed or not, with the same body and webhook-id. Repeats follow as of any delivery. "
            "Kafka has it when this is answered.",
            errors=(409, 422, 503),
        )
    ]


async def resend_attempt(api: Api, who: Asker, identifier: int, trace: TraceContext | None = None) -> tuple[AttemptRow, Endpoint]:
    """Send the notification of an attempt again; returns what it was, and where it goes, when Kafka has it.

    Raises:
        ApiError: 404, there is no such attempt; 409, it cannot be sent again; 503, Kafka or ClickHouse does not answer.
    """
    require_endpoints(api)
    async with searching(api):
        found = await api.search.attempt(identifier)
        if found is None:
            raise not_found()
        body = await api.reports.event_body(found.attempt.event_id)
    return found.attempt, await send_again(api, who, found.attempt, found.event_received_at, body, trace=trace)
