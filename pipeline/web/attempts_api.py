"""``GET /api/webhook/attempts`` and ``GET /api/webhook/attempts/{id}``: what was sent, when, to whom, and what came back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict

from aiohttp import web

from pipeline.core.search import parse_query
from pipeline.store.errors import StoreBudgetError, StoreUnavailableError
from pipeline.store.search import AttemptDetail, AttemptRow
from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.bodies import check_body_search, show_bodies
from pipeline.web.errors import ApiError, InvalidError, not_found
from pipeline.web.queries import path_id, refuse_ignored
from pipeline.web.routes import FILTERS, PAGE, STRICT, Route
from schemas.api_key import Access
from schemas.http_api import AttemptAnswer, AttemptDetailAnswer, AttemptListAnswer


def attempt_routes(api: Api) -> Iterable[Route]:
    """The routes, below ``/api``."""

    async def index(request: web.Request) -> web.Response:
        query = parse_query(request.query.items())
        refuse_ignored(request, query.ignored)
        await check_body_search(api, request, query)
        async with searching(api):
            page = await api.search.attempts(query)
        return answer(
            AttemptListAnswer(
                attempts=[attempt_answer(row) for row in page.items],
                count=len(page.items),
                total_count=page.total_count,
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
        return answer(await show_bodies(api, request, _detail_answer(detail)))

    return [
        Route(
            "GET",
            "/webhook/attempts",
            index,
            Access.VIEWER,
            "Search the attempts",
            {200: AttemptListAnswer},
            "Newest first. What a filter does not understand is reported in ignored_filters. Searching in bodies needs an operator.",
            parameters=(*PAGE, FILTERS, STRICT),
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
