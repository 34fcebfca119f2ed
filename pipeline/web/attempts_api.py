"""``GET /api/webhook/attempts`` with ``/facets``, ``/histogram`` and ``/{id}``: what was sent, when, to whom, and what came back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Final

from aiohttp import web

from pipeline.core.search import AttemptQuery, parse_query
from pipeline.store.figures import DEFAULT_BARS, MAX_BARS
from pipeline.store.search import AttemptDetail, AttemptRow
from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.bodies import check_body_search, show_bodies
from pipeline.web.errors import not_found
from pipeline.web.queries import path_id, refuse_ignored, whole_number
from pipeline.web.routes import AFTER, FILTERS, PAGE, STRICT, Parameter, Route
from pipeline.web.searching import searching
from schemas.api_key import Access
from schemas.http_api import (
    AttemptAnswer,
    AttemptDetailAnswer,
    AttemptListAnswer,
    EndpointCount,
    FacetsAnswer,
    HistogramAnswer,
    HistogramBar,
)

_BARS: Final = Parameter(
    "bars", "How many at most.", {"type": "integer", "minimum": 1, "maximum": MAX_BARS, "default": DEFAULT_BARS}
)


def attempt_routes(api: Api) -> Iterable[Route]:
    """The routes, below ``/api``."""

    async def index(request: web.Request) -> web.Response:
        query = await asked(api, request)
        async with searching(api):
            page = await api.search.attempts(query)
        return answer(
            AttemptListAnswer(
                attempts=[attempt_answer(row) for row in page.items],
                count=len(page.items),
                total_count=page.total_count,
                total_count_is_exact=page.is_exact,
                next_cursor=page.next_cursor,
                current_page=page.current_page,
                pages=page.pages,
                per_page=page.per_page,
                ignored_filters=list(query.ignored),
            )
        )

    async def show(request: web.Request) -> web.Response:
        return answer(await attempt_in_full(api, request))

    async def facets(request: web.Request) -> web.Response:
        query = await asked(api, request)
        async with searching(api):
            found = await api.search.facets(query)
        return answer(
            FacetsAnswer(
                total_count=found.total,
                states=found.states,
                events=found.events,
                endpoints=[EndpointCount(endpoint_id=one, count=count) for one, count in found.endpoints.items()],
                ignored_filters=list(query.ignored),
            )
        )

    async def histogram(request: web.Request) -> web.Response:
        query = await asked(api, request)
        bars = min(max(whole_number(request, "bars", DEFAULT_BARS), 1), MAX_BARS)
        async with searching(api):
            found = await api.search.histogram(query, bars)
        return answer(
            HistogramAnswer(
                interval_seconds=found.seconds,
                bars=[HistogramBar(**asdict(bar)) for bar in found.bars],
                ignored_filters=list(query.ignored),
            )
        )

    return [
        Route(
            "GET",
            "/webhook/attempts",
            index,
            Access.VIEWER,
            "Search the attempts",
            {200: AttemptListAnswer},
            "Newest first. What a filter does not understand is reported in ignored_filters. Searching in bodies needs an operator.",
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
            "By state, event type and endpoint.",
            parameters=(FILTERS, STRICT),
            errors=(422, 503),
        ),
        Route(
            "GET",
            "/webhook/attempts/histogram",
            histogram,
            Access.VIEWER,
            "The attempts of a search over time",
            {200: HistogramAnswer},
            parameters=(_BARS, FILTERS, STRICT),
            errors=(422, 503),
        ),
        Route(
            "GET",
            "/webhook/attempts/{id}",
            show,
            Access.VIEWER,
            "One attempt with headers and bodies",
            {200: AttemptDetailAnswer},
            "Bodies are shown to operators, and that they were is on record; to viewers bodies_hidden is true.",
            errors=(503,),
        ),
    ]


async def asked(api: Api, request: web.Request) -> AttemptQuery:
    """The search that the query string asks for, if the caller may make it. One in bodies is put on record.

    Raises:
        ApiError: 403, it needs another role; 422, ``strict`` is true and something was ignored.
    """
    query = parse_query(request.query.items(), api.clock())
    refuse_ignored(request, query.ignored, query.blank)
    await check_body_search(api, request, query)
    return query


async def attempt_in_full(api: Api, request: web.Request) -> AttemptDetailAnswer:
    """The attempt that the path names, as the caller may see it.

    Raises:
        ApiError: 404, there is none; 503, ClickHouse or (for the audit) Kafka does not answer.
    """
    identifier = path_id(request)
    async with searching(api):
        detail = await api.search.attempt(identifier)
    if detail is None:
        raise not_found()
    return await show_bodies(api, request, _detail_answer(detail))


def attempt_answer(row: AttemptRow) -> AttemptAnswer:
    """An attempt as lists show it."""
    return AttemptAnswer(**asdict(row))


def _detail_answer(detail: AttemptDetail) -> AttemptDetailAnswer:
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
