"""``POST /api/webhook/sql`` of the embedded pipeline: one SELECT, read-only. A real ClickHouse has an interface and users of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable

from aiohttp import web

from pipeline.store.analyst import Analyst
from pipeline.store.errors import StoreBudgetError, StoreRejectedError
from pipeline.web.answers import answer
from pipeline.web.api import Api
from pipeline.web.attempts_api import searching
from pipeline.web.errors import InvalidError
from pipeline.web.queries import read_body
from schemas.http_api import SqlAnswer


def sql_routes(api: Api, analyst: Analyst) -> Iterable[web.RouteDef]:
    """The route, below ``/api``."""

    async def ask(request: web.Request) -> web.Response:
        statement = _statement(await read_body(request))
        async with searching(api):
            try:
                found = await analyst.ask(statement)
            except (StoreRejectedError, StoreBudgetError) as error:
                raise InvalidError({"statement": [str(error)]}) from error
        return answer(SqlAnswer(columns=list(found.columns), rows=list(found.rows), seconds=found.seconds))

    return [web.post("/webhook/sql", ask)]


def _statement(body: bytes) -> str:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        given = None
    statement = given.get("statement") if isinstance(given, dict) else None
    if not isinstance(statement, str) or not statement.strip():
        raise InvalidError({"statement": ['Send JSON such as {"statement": "SELECT count() FROM attempt_history"}.']})
    try:
        statement.encode()
    except UnicodeEncodeError:
        raise InvalidError({"statement": ["The statement is not valid UTF-8."]}) from None
    return statement
