"""``/api/webhook/endpoints``: list, register, show, change and delete endpoints.

Input is wrapped (``{"endpoint": {…}}``), output is not. PUT changes only the fields that are given, as PATCH does: so the users
of this API know it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiohttp import web

from pipeline.core.circuit import CircuitState
from pipeline.core.search import parse_query
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.registry import state_of
from pipeline.store.search import Page
from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.attempts_api import attempt_answer, searching
from pipeline.web.endpoint_changes import (
    create_endpoint,
    delete_endpoint,
    find_endpoint,
    require_endpoints,
    update_endpoint,
)
from pipeline.web.endpoint_filters import parse_endpoint_filters
from pipeline.web.endpoint_input import ignored_fields, parse_endpoint
from pipeline.web.errors import InvalidError
from pipeline.web.queries import is_true, path_id, read_body, refuse_ignored, whole_number
from schemas.http_api import (
    EndpointAnswer,
    EndpointCreated,
    EndpointListAnswer,
    EndpointWithAttempts,
    EndpointWritten,
    in_order,
)

_DEFAULT_ATTEMPTS: Final = 25
_MAX_ATTEMPTS: Final = 200
_MAX_ATTEMPTS_IN_ALL: Final = 5000


def endpoint_routes(api: Api) -> Iterable[web.RouteDef]:
    """The routes, below ``/api``."""
    handlers = _Handlers(api)
    return [
        web.get("/webhook/endpoints", handlers.index),
        web.post("/webhook/endpoints", handlers.create),
        web.get("/webhook/endpoints/{id}", handlers.show),
        web.put("/webhook/endpoints/{id}", handlers.update),
        web.patch("/webhook/endpoints/{id}", handlers.update),
        web.delete("/webhook/endpoints/{id}", handlers.delete),
    ]


class _Handlers:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def index(self, request: web.Request) -> web.Response:
        require_endpoints(self._api)
        filters = parse_endpoint_filters(request.query.items())
        refuse_ignored(request, filters.ignored)
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
        return answer(shown)

    async def create(self, request: web.Request) -> web.Response:
        given = parse_endpoint(await read_body(request), required=("target_url", "events"))
        endpoint, secret = await create_endpoint(self._api, given, self._actor(request))
        values = _values(self._api, endpoint) | {"ignored_fields": ignored_fields(given)}
        if secret is None:
            return answer(EndpointWritten(**values))
        location = f"{request.path}/{endpoint.id}"
        return answer(EndpointCreated(**values, secret=secret), 201, {"Location": location})

    async def update(self, request: web.Request) -> web.Response:
        # An endpoint that does not exist is not found, whatever the body says.
        endpoint = find_endpoint(self._api, path_id(request))
        given = parse_endpoint(await read_body(request))
        endpoint = await update_endpoint(self._api, endpoint.id, given, self._actor(request))
        return answer(EndpointWritten(**_values(self._api, endpoint), ignored_fields=ignored_fields(given)))

    async def delete(self, request: web.Request) -> web.Response:
        await delete_endpoint(self._api, path_id(request), self._actor(request))
        return web.Response(status=204)

    def _actor(self, request: web.Request) -> str:
        return self._api.keys.actor(request.headers.get("Authorization"))

    async def _shown(self, request: web.Request, endpoints: Sequence[Endpoint]) -> list[EndpointAnswer]:
        if not endpoints or not is_true(request, "include_attempts"):
            return [EndpointAnswer(**_values(self._api, endpoint)) for endpoint in endpoints]
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
                **_values(self._api, endpoint), attempts=[attempt_answer(row) for row in summaries[endpoint.id].attempts]
            )
            for endpoint in endpoints
        ]


def _page(request: web.Request, endpoints: Sequence[Endpoint]) -> Page[Endpoint]:
    # The same rules for page and per_page as in a search for attempts.
    query = parse_query((name, value) for name, value in request.query.items() if not name.startswith("q"))
    start = (query.page - 1) * query.per_page
    return Page(tuple(endpoints[start : start + query.per_page]), len(endpoints), query.page, query.per_page)


def _values(api: Api, endpoint: Endpoint) -> dict[str, Any]:
    """What is shown of an endpoint: never its token or its secrets."""
    record, health, disabled = endpoint.record, api.registry.health, endpoint.disabled
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
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "version": record.version,
    }
