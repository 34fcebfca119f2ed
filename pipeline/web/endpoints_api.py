"""``/api/webhook/endpoints``: list, register, show, change and delete endpoints.

Input is wrapped (``{"endpoint": {…}}``), output is not. PUT changes only the fields that are given, as PATCH does: so the users
of this API know it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiohttp import web

from pipeline.core.circuit import CircuitState
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.registry import state_of
from pipeline.store.search import Page
from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.attempts_api import attempt_answer
from pipeline.web.auth import principal_of
from pipeline.web.endpoint_changes import (
    create_endpoint,
    delete_endpoint,
    find_endpoint,
    require_endpoints,
    rotate_secret,
    update_endpoint,
)
from pipeline.web.endpoint_filters import parse_endpoint_filters
from pipeline.web.endpoint_input import parse_endpoint
from pipeline.web.errors import InvalidError
from pipeline.web.queries import expected_versions, is_true, page_and_size, path_id, read_body, refuse_ignored, whole_number
from pipeline.web.routes import FILTERS, IF_MATCH, PAGE, STRICT, Method, Parameter, Route
from pipeline.web.searching import searching
from schemas.api_key import Access
from schemas.http_api import (
    EndpointAnswer,
    EndpointCreated,
    EndpointListAnswer,
    EndpointWithAttempts,
    EndpointWritten,
    in_order,
)
from schemas.http_operations import EndpointBody, NewEndpointBody

_DEFAULT_ATTEMPTS: Final = 25
_MAX_ATTEMPTS: Final = 200
_MAX_ATTEMPTS_IN_ALL: Final = 5000
_UPDATES: Final[tuple[Method, ...]] = ("PUT", "PATCH")


_ATTEMPTS: Final = (
    Parameter("include_attempts", "1: each endpoint with its last attempts.", {"type": "boolean"}),
    Parameter("attempts_count", "How many of them.", {"type": "integer", "minimum": 0, "maximum": 200, "default": 25}),
)


def endpoint_routes(api: Api) -> Iterable[Route]:
    """The routes, below ``/api``."""
    handlers = _Handlers(api)
    one, changed = "/webhook/endpoints/{id}", "Fields that are not given keep their values, with PUT as with PATCH."
    return [
        Route(
            "GET",
            "/webhook/endpoints",
            handlers.index,
            Access.VIEWER,
            "List the endpoints",
            {200: EndpointListAnswer},
            parameters=(*PAGE, *_ATTEMPTS, FILTERS, STRICT),
            errors=(422, 503),
        ),
        Route(
            "POST",
            "/webhook/endpoints",
            handlers.create,
            Access.ADMIN,
            "Register an endpoint",
            {200: EndpointWritten, 201: EndpointCreated},
            "201 shows the signing secret, once. A target_url that is registered already: 200 with that endpoint, unchanged.",
            body=NewEndpointBody,
            errors=(503,),
        ),
        Route(
            "GET",
            one,
            handlers.show,
            Access.VIEWER,
            "One endpoint",
            {200: (EndpointWithAttempts, EndpointAnswer)},
            "The ETag names its version, for If-Match.",
            parameters=_ATTEMPTS,
            errors=(422, 503),
        ),
        *(
            Route(
                method,
                one,
                handlers.update,
                Access.ADMIN,
                "Change an endpoint",
                {200: EndpointWritten},
                changed,
                body=EndpointBody,
                parameters=(IF_MATCH,),
                errors=(412, 503),
            )
            for method in _UPDATES
        ),
        Route(
            "DELETE",
            one,
            handlers.delete,
            Access.ADMIN,
            "Delete an endpoint",
            {204: None},
            parameters=(IF_MATCH,),
            errors=(412, 503),
        ),
        Route(
            "POST",
            f"{one}/rotate_secret",
            handlers.rotate_secret,
            Access.ADMIN,
            "Give an endpoint a new signing secret",
            {200: EndpointCreated},
            "Shows the new secret, once. For 24 hours requests carry signatures of both, the old secret's and the new one's.",
            parameters=(IF_MATCH,),
            errors=(412, 503),
        ),
    ]


class _Handlers:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def index(self, request: web.Request) -> web.Response:
        require_endpoints(self._api)
        filters = parse_endpoint_filters(request.query.items())
        refuse_ignored(request, filters.ignored, filters.blank)
        page = _page(request, [endpoint for endpoint in self._api.registry.all() if filters.accepts(endpoint)])
        return answer(
            EndpointListAnswer(
                endpoints=await self._shown(request, page.items),
                count=len(page.items),
                total_count=page.total_count,
                current_page=page.current_page,
                pages=page.pages,
                per_page=page.per_page,
                ignored_filters=list(filters.ignored),
            )
        )

    async def show(self, request: web.Request) -> web.Response:
        endpoint = find_endpoint(self._api, path_id(request))
        (shown,) = await self._shown(request, [endpoint])
        return answer(shown, headers=_tag(endpoint))

    async def create(self, request: web.Request) -> web.Response:
        asked = parse_endpoint(await read_body(request), required=("target_url", "events"))
        endpoint, secret = await create_endpoint(self._api, asked.given, principal_of(request).actor)
        values = endpoint_values(self._api, endpoint) | {"ignored_fields": asked.ignored}
        if secret is None:
            return answer(EndpointWritten(**values), headers=_tag(endpoint))
        headers = {"Location": f"{request.path}/{endpoint.id}"} | _tag(endpoint)
        return answer(EndpointCreated(**values, secret=secret), 201, headers)

    async def update(self, request: web.Request) -> web.Response:
        # An endpoint that does not exist is not found, whatever the body says.
        endpoint = find_endpoint(self._api, path_id(request))
        asked = parse_endpoint(await read_body(request))
        actor, expected = principal_of(request).actor, expected_versions(request)
        endpoint = await update_endpoint(self._api, endpoint.id, asked.given, actor, expected)
        return answer(
            EndpointWritten(**endpoint_values(self._api, endpoint), ignored_fields=asked.ignored), headers=_tag(endpoint)
        )

    async def rotate_secret(self, request: web.Request) -> web.Response:
        actor, expected = principal_of(request).actor, expected_versions(request)
        endpoint, secret = await rotate_secret(self._api, path_id(request), actor, expected)
        return answer(
            EndpointCreated(**endpoint_values(self._api, endpoint), ignored_fields=[], secret=secret), headers=_tag(endpoint)
        )

    async def delete(self, request: web.Request) -> web.Response:
        actor, expected = principal_of(request).actor, expected_versions(request)
        await delete_endpoint(self._api, path_id(request), actor, expected)
        return web.Response(status=204)

    async def _shown(self, request: web.Request, endpoints: Sequence[Endpoint]) -> list[EndpointAnswer]:
        if not endpoints or not is_true(request, "include_attempts"):
            return [EndpointAnswer(**endpoint_values(self._api, endpoint)) for endpoint in endpoints]
        last = min(whole_number(request, "attempts_count", _DEFAULT_ATTEMPTS), _MAX_ATTEMPTS)
        if last * len(endpoints) > _MAX_ATTEMPTS_IN_ALL:
            message = (
                f"attempts_count is too large for {len(endpoints)} endpoints: at most {_MAX_ATTEMPTS_IN_ALL} attempts in all."
            )
            raise InvalidError({"attempts_count": [message]})
        async with searching(self._api):
            summaries = await self._api.search.endpoint_summaries([endpoint.id for endpoint in endpoints], last)
        return [
            EndpointWithAttempts(
                **endpoint_values(self._api, endpoint), attempts=[attempt_answer(row) for row in summaries[endpoint.id].attempts]
            )
            for endpoint in endpoints
        ]


def _page(request: web.Request, endpoints: Sequence[Endpoint]) -> Page[Endpoint]:
    page, size = page_and_size(request)
    start = (page - 1) * size
    return Page(tuple(endpoints[start : start + size]), len(endpoints), page, size)


def _tag(endpoint: Endpoint) -> dict[str, str]:
    return {"ETag": f'"{endpoint.record.version}"'}


def endpoint_values(api: Api, endpoint: Endpoint) -> dict[str, Any]:
    """What is shown of an endpoint: never its token or its secrets."""
    record, health, disabled = endpoint.record, api.registry.health, endpoint.disabled
    held = api.registry.held(endpoint)
    return {
        "id": endpoint.id,
        "target_url": endpoint.target_url,
        "events": in_order(record.events),
        "active": endpoint.active,
        "description": record.description,
        "filters": record.filters,
        "has_token": endpoint.record.sealed_token is not None,
        "max_per_second": record.max_per_second,
        "state": state_of(endpoint),
        "disabled_reason": disabled.detail if disabled is not None else None,
        "disabled_at": disabled.at if disabled is not None else None,
        "failing_since": health.failing_since(record) if health is not None else None,
        "circuit": health.circuit(record, api.clock()) if health is not None else CircuitState.CLOSED,
        "problem": endpoint.problem,
        "unsent_headers": list(endpoint.unsent_headers),
        "held_count": held.count,
        "held_since": held.since,
        "header_names": sorted(record.sealed_headers),
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "version": record.version,
    }
