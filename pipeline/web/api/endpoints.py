"""``/api/webhook/endpoints``: list, register, show, change and delete endpoints.

Input is wrapped (``{"endpoint": {…}}``), output is not. PUT changes only the given fields, like PATCH, as users of this
API expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from aiohttp import web

from pipeline.endpoints.endpoint import Endpoint
from pipeline.store.search.queries import ResultPage
from pipeline.web import endpoint_changes
from pipeline.web.api.attempts import attempt_answer
from pipeline.web.api.endpoint_answers import endpoint_values
from pipeline.web.api.endpoint_filters import parse_endpoint_filters
from pipeline.web.api.endpoint_input import parse_endpoint
from pipeline.web.api.wrapped_input import parse_wrapped
from pipeline.web.auth import principal_of
from pipeline.web.endpoint_writes import find_endpoint
from pipeline.web.errors import InvalidError, require_endpoints
from pipeline.web.request_values import (
    expected_versions,
    is_true,
    page_and_size,
    path_id,
    read_body,
    refuse_ignored,
    whole_number,
)
from pipeline.web.responses import answer
from pipeline.web.routes import FILTERS, IF_MATCH, PAGE, SLASH, STRICT, Method, Parameter, Route
from pipeline.web.search_errors import searching
from pipeline.web.services import EndpointListServices
from pipeline.web.verification import verify_when_asked
from schemas.api_key import Access
from schemas.http.endpoints import (
    EndpointAnswer,
    EndpointCreated,
    EndpointListAnswer,
    EndpointWithAttempts,
    EndpointWritten,
)
from schemas.http.operations import EndpointBody, NewEndpointBody
from schemas.http.signatures import RotationBody, RotationInput

_REQUIRED: Final = ("target_url", "events")
_DEFAULT_ATTEMPTS: Final = 25
_MAX_ATTEMPTS: Final = 200
_MAX_ATTEMPTS_IN_ALL: Final = 5000
_ROTATION: Final = 'Send how long the old one stays valid, wrapped: {"rotation": {"overlap_hours": 48}}. Or send no body.'
_ONE: Final = "/webhook/endpoints/{id}"
_UPDATES: Final[tuple[Method, ...]] = ("PUT", "PATCH")


_ATTEMPTS: Final = (
    Parameter("include_attempts", "1: include the last attempts of each endpoint.", {"type": "boolean"}),
    Parameter(
        "attempts_count", "How many attempts to include.", {"type": "integer", "minimum": 0, "maximum": 200, "default": 25}
    ),
)


async def index(api: EndpointListServices, request: web.Request) -> web.Response:
    require_endpoints(api.registry)
    filters = parse_endpoint_filters(request.query.items())
    refuse_ignored(request, filters.ignored, filters.blank)
    page = _page(request, [endpoint for endpoint in api.registry.all() if filters.accepts(endpoint)])
    return answer(
        EndpointListAnswer(
            endpoints=await _shown(api, request, page.items),
            count=len(page.items),
            total_count=page.total_count,
            current_page=page.current_page,
            pages=page.pages,
            per_page=page.per_page,
            ignored_filters=list(filters.ignored),
        )
    )


async def show(api: EndpointListServices, request: web.Request) -> web.Response:
    endpoint = find_endpoint(api, path_id(request))
    (shown,) = await _shown(api, request, [endpoint])
    return answer(shown, headers=_tag(endpoint))


async def create(api: EndpointListServices, request: web.Request) -> web.Response:
    body, actor = await read_body(request), principal_of(request).actor
    asked = parse_endpoint(body, required=_REQUIRED, types=api.events.types, is_strict=is_true(request, STRICT.name))
    endpoint, secret = await endpoint_changes.create_endpoint(api, asked.given, actor)
    if secret is not None:
        endpoint = await verify_when_asked(api, endpoint, actor)
    values = endpoint_values(api, endpoint) | {"ignored_fields": asked.ignored}
    if secret is None:
        return answer(EndpointWritten(**values), headers=_tag(endpoint))
    headers = {"Location": f"{request.path.removesuffix(SLASH)}/{endpoint.id}"} | _tag(endpoint)
    return answer(EndpointCreated(**values, secret=secret), 201, headers)


async def update(api: EndpointListServices, request: web.Request) -> web.Response:
    # Look the endpoint up first: if it does not exist, the answer is 404, even if the body is invalid.
    endpoint = find_endpoint(api, path_id(request))
    asked = parse_endpoint(await read_body(request), types=api.events.types, is_strict=is_true(request, STRICT.name))
    actor, expected = principal_of(request).actor, expected_versions(request)
    endpoint = await endpoint_changes.update_endpoint(api, endpoint.id, asked.given, actor, expected)
    if endpoint.is_unverified and not endpoint.record.verification_problem:  # not verified yet
        endpoint = await verify_when_asked(api, endpoint, actor)
    return answer(EndpointWritten(**endpoint_values(api, endpoint), ignored_fields=asked.ignored), headers=_tag(endpoint))


async def rotate_secret(api: EndpointListServices, request: web.Request) -> web.Response:
    actor, expected = principal_of(request).actor, expected_versions(request)
    endpoint, secret = await endpoint_changes.rotate_secret(api, path_id(request), actor, expected, await _overlap(request))
    return answer(EndpointCreated(**endpoint_values(api, endpoint), ignored_fields=[], secret=secret), headers=_tag(endpoint))


async def rotate_key_pair(api: EndpointListServices, request: web.Request) -> web.Response:
    actor, expected = principal_of(request).actor, expected_versions(request)
    endpoint = await endpoint_changes.rotate_key_pair(api, path_id(request), actor, expected, await _overlap(request))
    return answer(EndpointWritten(**endpoint_values(api, endpoint), ignored_fields=[]), headers=_tag(endpoint))


async def delete(api: EndpointListServices, request: web.Request) -> web.Response:
    actor, expected = principal_of(request).actor, expected_versions(request)
    await endpoint_changes.delete_endpoint(api, path_id(request), actor, expected)
    return web.Response(status=204)


ENDPOINT_ROUTES: Final[Sequence[Route[EndpointListServices]]] = (
    Route(
        "GET",
        "/webhook/endpoints",
        index,
        Access.VIEWER,
        "List endpoints",
        {200: EndpointListAnswer},
        parameters=(*PAGE, *_ATTEMPTS, FILTERS, STRICT),
        errors=(422, 503),
    ),
    Route(
        "POST",
        "/webhook/endpoints",
        create,
        Access.ADMIN,
        "Register an endpoint",
        {200: EndpointWritten, 201: EndpointCreated},
        "A 201 contains the signing secret, which is shown only once. An endpoint with a verification is verified immediately: see verified_at and "
        "verification_problem. If the target_url is already registered, the response is 200 with that endpoint, unchanged.",
        body=NewEndpointBody,
        errors=(503,),
    ),
    Route(
        "GET",
        _ONE,
        show,
        Access.VIEWER,
        "Get an endpoint",
        {200: (EndpointWithAttempts, EndpointAnswer)},
        "The ETag is its version, for If-Match.",
        parameters=_ATTEMPTS,
        errors=(422, 503),
    ),
    *(
        Route(
            method,
            _ONE,
            update,
            Access.ADMIN,
            "Change an endpoint",
            {200: EndpointWritten},
            "Omitted fields keep their values, with PUT as well as with PATCH.",
            body=EndpointBody,
            parameters=(IF_MATCH,),
            errors=(412, 503),
        )
        for method in _UPDATES
    ),
    Route(
        "DELETE",
        _ONE,
        delete,
        Access.ADMIN,
        "Delete an endpoint",
        {204: None},
        parameters=(IF_MATCH,),
        errors=(412, 503),
    ),
    Route(
        "POST",
        f"{_ONE}/rotate_secret",
        rotate_secret,
        Access.ADMIN,
        "Rotate an endpoint's signing secret",
        {200: EndpointCreated},
        "Returns the new secret, which is shown only once. During the overlap (24 hours, unless the body says otherwise), requests are signed with "
        "both secrets.",
        body=RotationBody,
        parameters=(IF_MATCH,),
        errors=(412, 503),
    ),
    Route(
        "POST",
        f"{_ONE}/rotate_key_pair",
        rotate_key_pair,
        Access.ADMIN,
        "Rotate an endpoint's key pair for v1a signatures",
        {200: EndpointWritten},
        "public_keys and the JWKS have the new public key. During the overlap, requests are signed with both key pairs.",
        body=RotationBody,
        parameters=(IF_MATCH,),
        errors=(409, 412, 503),
    ),
)


async def _shown(api: EndpointListServices, request: web.Request, endpoints: Sequence[Endpoint]) -> list[EndpointAnswer]:
    if not endpoints or not is_true(request, "include_attempts"):
        return [EndpointAnswer(**endpoint_values(api, endpoint)) for endpoint in endpoints]
    last = min(whole_number(request, "attempts_count", _DEFAULT_ATTEMPTS), _MAX_ATTEMPTS)
    if last * len(endpoints) > _MAX_ATTEMPTS_IN_ALL:
        message = (
            f"attempts_count is too large for {len(endpoints)} endpoints. The limit is {_MAX_ATTEMPTS_IN_ALL} attempts in total."
        )
        raise InvalidError({"attempts_count": [message]})
    async with searching(api):
        summaries = await api.search.endpoint_summaries([endpoint.id for endpoint in endpoints], last)
    return [
        EndpointWithAttempts(
            **endpoint_values(api, endpoint), attempts=[attempt_answer(row) for row in summaries[endpoint.id].attempts]
        )
        for endpoint in endpoints
    ]


def _page(request: web.Request, endpoints: Sequence[Endpoint]) -> ResultPage[Endpoint]:
    page, size = page_and_size(request)
    start = (page - 1) * size
    return ResultPage(tuple(endpoints[start : start + size]), len(endpoints), page, size)


async def _overlap(request: web.Request) -> timedelta:
    body = await read_body(request)
    says_nothing = body.strip() in (b"", b"{}")  # clients of earlier releases may send an empty object
    given = RotationInput() if says_nothing else parse_wrapped(body, "rotation", RotationInput, hint=_ROTATION)
    return timedelta(hours=given.overlap_hours)


def _tag(endpoint: Endpoint) -> dict[str, str]:
    return {"ETag": f'"{endpoint.record.version}"'}
