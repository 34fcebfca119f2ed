"""``POST /api/webhook/sql``: one read-only SELECT in the embedded ClickHouse. A ClickHouse server is queried directly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from pipeline.store.errors import StoreBudgetError, StoreRejectedError
from pipeline.web.api.wrapped_input import names_beside, parse_object
from pipeline.web.errors import ApiError, InvalidError
from pipeline.web.request_values import read_body
from pipeline.web.responses import answer
from pipeline.web.routes import Route
from pipeline.web.search_errors import searching
from pipeline.web.services import SqlServices
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.http.sql import SqlAnswer, SqlInput

_HINT: Final = 'Send JSON such as {"statement": "SELECT count() FROM attempt_history"}.'


async def ask(api: SqlServices, request: web.Request) -> web.Response:
    if api.analyst is None:
        raise ApiError(404, "This pipeline uses a ClickHouse server. Query the server directly, as one of its users.")
    statement = _statement(await read_body(request))
    # Do not record the statement: it may contain customer data.
    await api.audit.put(request, AuditAction.SQL, "clickhouse")
    async with searching(api):
        try:
            found = await api.analyst.ask(statement)
        except (StoreRejectedError, StoreBudgetError) as error:
            raise InvalidError({"statement": [str(error)]}) from error
    return answer(SqlAnswer(columns=list(found.columns), rows=list(found.rows), seconds=found.seconds))


SQL_ROUTES: Final[Sequence[Route[SqlServices]]] = (
    Route(
        "POST",
        "/webhook/sql",
        ask,
        Access.ADMIN,
        "Query the embedded ClickHouse",
        {200: SqlAnswer},
        "One SELECT, read-only and limited. The audit log records that there was a query. 404 if ClickHouse is a server: "
        "query it directly.",
        body=SqlInput,
        errors=(404, 503),
    ),
)


def _statement(body: bytes) -> str:
    given = parse_object(body, "statement", _HINT)
    if unknown := names_beside(given, "statement"):
        raise InvalidError({name: [f"Unknown field. {_HINT}"] for name in unknown})
    statement = given.get("statement")
    if not isinstance(statement, str) or not statement.strip():
        raise InvalidError({"statement": [_HINT]})
    return statement
