"""``GET /api/webhook/attempts`` with ``/facets``, ``/histogram`` and ``/{id}``: what was sent, when, to whom, and what came back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict

from aiohttp import web

from pipeline.core.search import AttemptQuery, parse_query
from pipeline.store.errors import StoreBudgetError, StoreUnavailableError
from pipeline.store.figures import DEFAULT_BARS, MAX_BARS
from pipeline.store.search import AttemptDetail, AttemptRow
from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.errors import ApiError, InvalidError, not_found
from pipeline.web.queries import path_id, refuse_ignored, whole_number
from schemas.http_api import (
    AttemptAnswer,
    AttemptDetailAnswer,
    AttemptListAnswer,
    EndpointCount,
    FacetsAnswer,
    HistogramAnswer,
    HistogramBar,
)


def attempt_routes(api: Api) -> Iterable[web.RouteDef]:
    """The routes, below ``/api``."""

    async def index(request: web.Request) -> web.Response:
        query = _asked(request)
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
        identifier = path_id(request)
        async with searching(api):
            detail = await api.search.attempt(identifier)
        if detail is None:
            raise not_found()
        return answer(_detail_answer(detail))

    async def facets(request: web.Request) -> web.Response:
        query = _asked(request)
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
        query = _asked(request)
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
        web.get("/webhook/attempts", index),
        web.get("/webhook/attempts/facets", facets),
        web.get("/webhook/attempts/histogram", histogram),
        web.get("/webhook/attempts/{id}", show),
    ]


def _asked(request: web.Request) -> AttemptQuery:
    query = parse_query(request.query.items())
    refuse_ignored(request, query.ignored)
    return query


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


@asynccontextmanager
async def searching(api: Api) -> AsyncIterator[None]:
    """Turn what can go wrong in a search into what the user can do about it."""
    try:
        async with asyncio.timeout(api.search_timeout_seconds):
            yield
    except StoreBudgetError as error:
        raise InvalidError({"q": [str(error)]}) from error
    except StoreUnavailableError as error:
        raise ApiError(503, f"Attempts cannot be searched right now: {error}") from error
    except TimeoutError as error:
        message = "Attempts cannot be searched right now: too many searches are waiting. Please try again in a moment."
        raise ApiError(503, message) from error
