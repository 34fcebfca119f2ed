"""``GET /api/webhook/attempts`` with ``/facets``, ``/histogram`` and ``/{id}``: what was sent, when, to whom, and what came back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Final

from aiohttp import web

from pipeline.core.search import AttemptQuery, parse_query
from pipeline.store.search.aggregates import DEFAULT_BARS, MAX_BARS
from pipeline.store.search.queries import AttemptDetail, AttemptRow
from pipeline.web.body_access import check_body_search, show_bodies
from pipeline.web.errors import not_found
from pipeline.web.request_values import path_id, refuse_ignored, whole_number
from pipeline.web.responses import answer
from pipeline.web.routes import AFTER, FILTERS, PAGE, STRICT, Parameter, Route
from pipeline.web.search_errors import searching
from pipeline.web.services import AttemptServices, CommonServices
from schemas.api_key import Access
from schemas.http.attempts import (
    AttemptAnswer,
    AttemptDetailAnswer,
    AttemptListAnswer,
    EndpointCount,
    FacetsAnswer,
    HistogramAnswer,
    HistogramBar,
)

_BARS: Final = Parameter(
    "bars", "The maximum number of bars.", {"type": "integer", "minimum": 1, "maximum": MAX_BARS, "default": DEFAULT_BARS}
)


async def index(api: AttemptServices, request: web.Request) -> web.Response:
    query = await asked(api, request, has_pages=True)
    async with searching(api):
        page = await api.search.attempts(query)
    return answer(
        AttemptListAnswer(
            attempts=[attempt_answer(row) for row in page.items],
            count=len(page.items),
            total_count=page.total_count,
            total_count_is_exact=page.is_exact,
            next_cursor=page.next_cursor,
            sorted_since=page.sorted_since,
            current_page=page.current_page,
            pages=page.pages,
            per_page=page.per_page,
            ignored_filters=list(query.ignored),
        )
    )


async def show(api: AttemptServices, request: web.Request) -> web.Response:
    return answer(await attempt_in_full(api, request))


async def facets(api: AttemptServices, request: web.Request) -> web.Response:
    query = await asked(api, request)
    async with searching(api):
        found = await api.search.facets(query)
    return answer(
        FacetsAnswer(
            total_count=found.total,
            total_count_is_exact=found.since is None,
            counted_since=found.since,
            states=found.states,
            events=found.events,
            endpoints=[EndpointCount(endpoint_id=one, count=count) for one, count in found.endpoints.items()],
            ignored_filters=list(query.ignored),
        )
    )


async def histogram(api: AttemptServices, request: web.Request) -> web.Response:
    query = await asked(api, request)
    bars = min(max(whole_number(request, "bars", DEFAULT_BARS), 1), MAX_BARS)
    async with searching(api):
        found = await api.search.histogram(query, bars)
    return answer(
        HistogramAnswer(
            interval_seconds=found.seconds,
            counted_since=found.since,
            bars=[HistogramBar(**asdict(bar)) for bar in found.bars],
            ignored_filters=list(query.ignored),
        )
    )


ATTEMPT_ROUTES: Final[Sequence[Route[AttemptServices]]] = (
    Route(
        "GET",
        "/webhook/attempts",
        index,
        Access.VIEWER,
        "Search attempts",
        {200: AttemptListAnswer},
        "Newest first. In another order, a search in texts (bodies, *_cont) sorts only the newest 2,000 attempts that it "
        "finds, and sorted_since is set. Filters without effect are reported in ignored_filters. Searching in bodies needs "
        "the operator role.",
        parameters=(*PAGE, AFTER, FILTERS, STRICT),
        errors=(422, 503),
    ),
    Route(
        "GET",
        "/webhook/attempts/facets",
        facets,
        Access.VIEWER,
        "Count the attempts of a search",
        {200: FacetsAnswer},
        "By state, event type and endpoint. If counting all would read too much, only the newest 5,000 are counted (1,000 if "
        "the search is in bodies), and counted_since is set.",
        parameters=(FILTERS, STRICT),
        errors=(422, 503),
    ),
    Route(
        "GET",
        "/webhook/attempts/histogram",
        histogram,
        Access.VIEWER,
        "Count the attempts of a search over time",
        {200: HistogramAnswer},
        "If counting all would read too much, only the newest 5,000 are counted (1,000 if the search is in bodies), and "
        "counted_since is set.",
        parameters=(_BARS, FILTERS, STRICT),
        errors=(422, 503),
    ),
    Route(
        "GET",
        "/webhook/attempts/{id}",
        show,
        Access.VIEWER,
        "Get an attempt with its headers and bodies",
        {200: AttemptDetailAnswer},
        "Operators see the bodies, and the view is recorded in the audit log. For viewers, bodies_hidden is true.",
        errors=(503,),
    ),
)


async def asked(
    api: CommonServices, request: web.Request, now: datetime | None = None, *, has_pages: bool = False
) -> AttemptQuery:
    """The search in the query string, if the caller may run it. Searches in bodies are recorded in the audit log.

    ``now`` is the current time in the zone in which days are counted. Default: UTC. ``has_pages``: whether the route has pages. Without
    pages, ``after`` has no effect, and is reported as any other unknown parameter.

    Raises:
        ApiError: 403, it needs another role; 422, ``strict`` is true and something was ignored.
    """
    pairs = ((key, value) for key, value in request.query.items() if has_pages or key.strip() != AFTER.name)
    query = parse_query(pairs, now or api.clock())
    refuse_ignored(request, query.ignored, query.blank)
    await check_body_search(api, request, query)
    return query


async def attempt_in_full(api: AttemptServices, request: web.Request) -> AttemptDetailAnswer:
    """The attempt in the path, as the caller may see it.

    Raises:
        ApiError: 404, there is none; 503, ClickHouse or (for the audit log) Kafka does not answer.
    """
    identifier = path_id(request)
    async with searching(api):
        detail = await api.search.attempt(identifier)
    if detail is None:
        raise not_found()
    return await show_bodies(api, request, detail_answer(detail))


def attempt_answer(row: AttemptRow) -> AttemptAnswer:
    """An attempt in the form of a list item."""
    return AttemptAnswer(**asdict(row))


def detail_answer(detail: AttemptDetail) -> AttemptDetailAnswer:
    """An attempt with all details. The caller decides who may see its bodies."""
    return AttemptDetailAnswer(
        **asdict(detail.attempt),
        request_body=detail.request_body,
        request_headers=detail.request_headers,
        response_body=detail.response_body,
        response_body_encoding=detail.response_body_encoding,
        response_truncated=detail.response_truncated,
        response_headers=list(detail.response_headers),
        siblings=[attempt_answer(row) for row in detail.siblings],
    )
