"""``POST /api/webhook/endpoints/{id}/verify``: ask an endpoint whether it wants webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from pipeline.web.api.endpoint_answers import endpoint_values
from pipeline.web.auth import principal_of
from pipeline.web.request_values import expected_versions, path_id
from pipeline.web.responses import answer
from pipeline.web.routes import IF_MATCH, Route
from pipeline.web.services import EndpointServices
from pipeline.web.verification import verify_endpoint
from schemas.api_key import Access
from schemas.http.endpoints import EndpointWritten


async def verify(api: EndpointServices, request: web.Request) -> web.Response:
    actor, expected = principal_of(request).actor, expected_versions(request)
    endpoint = await verify_endpoint(api, path_id(request), actor, expected)
    return answer(
        EndpointWritten(**endpoint_values(api, endpoint), ignored_fields=[]), headers={"ETag": f'"{endpoint.record.version}"'}
    )


VERIFY_ROUTES: Final[Sequence[Route[EndpointServices]]] = (
    Route(
        "POST",
        "/webhook/endpoints/{id}/verify",
        verify,
        Access.ADMIN,
        "Verify an endpoint",
        {200: EndpointWritten},
        "Verifies it once, in the way set by its verification. The response is the resulting endpoint, with verified_at or "
        "verification_problem. While it is unverified, its deliveries are held. 409 if its verification is none.",
        parameters=(IF_MATCH,),
        errors=(409, 412, 503),
    ),
)
