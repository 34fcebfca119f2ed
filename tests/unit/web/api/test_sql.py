"""POST …/sql: for admins, audited, and only with the embedded ClickHouse."""

from __future__ import annotations

import json

import pytest

from schemas.audit import AuditAction
from tests.unit.web.endpoint_requests import request
from tests.unit.web.service import Service, running_service

PATH = "/api/webhook/sql"
STATEMENT = {"statement": "SELECT 1 AS n, 'ada@example.com' AS t"}


async def test_a_statement_is_answered_and_audited_without_its_text(service: Service) -> None:
    assert await request(service, "POST", PATH, json=STATEMENT) == (
        200,
        {"columns": [["n", "UInt64"], ["t", "String"]], "rows": [[1, None]], "seconds": 0.01},
    )
    assert service.analyst.statements == [STATEMENT["statement"]]
    [entry] = service.kafka.audits
    assert (entry.action, entry.subject) == (AuditAction.SQL, "clickhouse")
    assert "ada" not in repr(entry)


async def test_a_statement_refused_by_clickhouse_is_explained(service: Service) -> None:
    status, body = await request(service, "POST", PATH, json={"statement": "DROP TABLE attempts"})
    assert (status, body["errors"]) == (422, {"statement": ["That is no SELECT."]})


@pytest.mark.parametrize("asked", [{"statement": " "}, {"statement": 1}, {}, [], None])
async def test_invalid_input_is_not_executed(service: Service, asked: object) -> None:
    status, body = await request(service, "POST", PATH, data=json.dumps(asked).encode())
    assert (status, list(body["errors"])) == (422, ["statement"])
    assert (service.analyst.statements, service.kafka.audits) == ([], [])


async def test_nothing_is_executed_if_the_audit_entry_cannot_be_written(service: Service) -> None:
    service.kafka.is_down = True
    assert (await request(service, "POST", PATH, json=STATEMENT))[0] == 503
    assert service.analyst.statements == []


async def test_a_clickhouse_server_must_be_queried_directly() -> None:
    async with running_service(is_embedded=False) as service:
        status, body = await request(service, "POST", PATH, json=STATEMENT)
    assert (status, "Query the server directly" in body["error"]) == (404, True)


async def test_invalid_utf_8_and_unknown_members_are_refused(service: Service) -> None:
    for asked, member in (({"statement": "\ud800"}, "body"), ({"statement": "SELECT 1", "database": "x"}, "database")):
        status, body = await request(service, "POST", PATH, data=json.dumps(asked).encode())
        assert (status, list(body["errors"])) == (422, [member])
    assert service.analyst.statements == []
