"""GET …/attempts/export.csv and .json: page by page, safe in a spreadsheet, and bodies for operators only."""

from __future__ import annotations

import csv
import io
import json

import aiohttp
import pytest
from structlog.testing import capture_logs

from pipeline.core.search import Cursor
from pipeline.core.spreadsheet_cells import cell
from pipeline.store.errors import StoreUnavailableError
from pipeline.store.search.bodies import LARGE_BODY
from pipeline.store.search.queries import AttemptPage
from schemas.api_key import Access
from schemas.audit import AuditAction
from schemas.http.attempts import AttemptAnswer
from tests.unit.web.attempt_rows import attempt_row
from tests.unit.web.endpoint_requests import request
from tests.unit.web.service import Service
from tests.waiting import until

CSV, JSON = "/api/webhook/attempts/export.csv", "/api/webhook/attempts/export.json"


async def fetch(service: Service, path: str) -> tuple[aiohttp.ClientResponse, str]:
    async with service.client.get(path) as response:
        return response, await response.text()


@pytest.fixture
def two_pages(service: Service) -> Service:
    service.attempts.pages = [
        (attempt_row(id=3, error="=HYPERLINK(1)"), attempt_row(id=2, target_url='http://x/?a="b",\n')),
        (attempt_row(id=1, order_number=None),),
    ]
    return service


async def test_csv_has_all_pages_and_one_header(two_pages: Service) -> None:
    response, text = await fetch(two_pages, f"{CSV}?q[state_eq]=failed&page=7&per_page=2")

    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert response.headers["Content-Disposition"] == 'attachment; filename="attempts.csv"'
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == list(AttemptAnswer.model_fields)
    lines = [dict(zip(header, row, strict=True)) for row in rows]
    assert [line["id"] for line in lines] == ["3", "2", "1"]
    assert lines[0]["error"] == "'=HYPERLINK(1)"
    assert lines[1]["target_url"] == 'http://x/?a="b",\n'
    assert (lines[2]["order_number"], lines[2]["skus"], lines[2]["created_at"]) == ("", "SKU-1 SKU-2", "2026-03-02T15:05:00.007Z")
    first, second = two_pages.attempts.queries
    # With a cursor, nothing is counted, not even for the first page.
    assert first.after == Cursor(9_000_000_000_000, 2**63 - 1, descending=True)
    assert (second.after, second.per_page) == (Cursor(1_700_000_000_000, 2, descending=True), 1000)


async def test_json_is_one_array(two_pages: Service) -> None:
    response, text = await fetch(two_pages, JSON)

    assert response.content_type == "application/json"
    found = json.loads(text)
    assert [one["id"] for one in found] == [3, 2, 1]
    assert AttemptAnswer.model_validate(found[0]).error == "=HYPERLINK(1)"
    assert len(text.splitlines()) == 5
    two_pages.attempts.rows = ()
    two_pages.attempts.pages = [()]
    assert json.loads((await fetch(two_pages, JSON))[1]) == []


async def test_bodies_need_the_operator_role_and_are_audited(two_pages: Service) -> None:
    two_pages.attempts.sent = {"evt_1": "Grüße".encode()}
    viewer = {"Authorization": f"Bearer {await two_pages.key(Access.VIEWER)}"}
    async with two_pages.anonymous.get(f"{CSV}?bodies=1", headers=viewer) as response:
        assert (response.status, (await response.json())["error"]) == (
            403,
            "An export with bodies needs a key with the operator role.",
        )
    assert two_pages.kafka.audits == []

    _, text = await fetch(two_pages, f"{CSV}?bodies=1")
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header[-3:] == ["request_body", "response_body", "response_body_encoding"]
    assert rows[0][-3:] == ["Grüße", "'=answered()", "text"]
    [entry] = two_pages.kafka.audits
    assert (entry.action, entry.subject, entry.detail) == (AuditAction.VIEW_BODY, "export", "request_body, response_body")
    assert two_pages.attempts.queries[0].per_page == 50


async def test_a_large_body_is_read_and_sent_alone(two_pages: Service) -> None:
    large = "x" * (LARGE_BODY + 1)
    two_pages.attempts.pages = [tuple(attempt_row(id=number, event_id=f"evt_{number}") for number in (5, 4, 3, 2, 1))]
    two_pages.attempts.sent = {f"evt_{number}": f"body {number}".encode() for number in (5, 3, 2)}
    two_pages.attempts.sent |= {"evt_4": large.encode(), "evt_1": large.encode()}

    _, text = await fetch(two_pages, f"{JSON}?bodies=1")
    assert [one["request_body"] for one in json.loads(text)] == ["body 5", large, "body 3", "body 2", large]
    assert two_pages.attempts.bodies_read == [[5, 4, 3, 2, 1], [4], [1]]


async def test_bodies_of_expired_attempts_are_requested_once(two_pages: Service) -> None:
    two_pages.attempts.pages = [tuple(attempt_row(id=number, event_id=f"evt_{number}") for number in (4, 3, 2, 1))]
    two_pages.attempts.sent = {"evt_3": b"body 3"}
    two_pages.attempts.expired = {4, 2, 1}

    _, text = await fetch(two_pages, f"{JSON}?bodies=1")
    assert [one["request_body"] for one in json.loads(text)] == [None, "body 3", None, None]
    assert two_pages.attempts.bodies_read == [[4, 3, 2, 1]]


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("q[s]=duration_ms desc", 422, "Exports are sorted by time"),
        ("q[ordr_eq]=1&strict=1", 422, "ordr_eq: attempts have no attribute ordr"),
        ("after=nonsense", 422, "after is not a cursor"),
    ],
)
async def test_queries_that_cannot_be_exported_are_refused(service: Service, query: str, status: int, words: str) -> None:
    answered, body = await request(service, "GET", f"{CSV}?{query}")
    assert (answered, body["errors"]["q"][0][: len(words)]) == (status, words)


async def test_an_export_in_ascending_order(two_pages: Service) -> None:
    await fetch(two_pages, f"{JSON}?q[s]=created_at asc")
    first = two_pages.attempts.queries[0]
    assert first.after == Cursor(-9_000_000_000_000, -(2**63), descending=False)


async def test_a_clickhouse_failure_gives_503_or_breaks_off_a_started_answer(
    two_pages: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = two_pages.attempts.attempts

    async def find_once(query: object) -> AttemptPage:
        page = await find(query)  # type: ignore[arg-type]
        two_pages.attempts.error = StoreUnavailableError("gone")
        return page

    monkeypatch.setattr(two_pages.attempts, "attempts", find_once)
    with pytest.raises(aiohttp.ClientPayloadError):
        await fetch(two_pages, JSON)
    assert (await request(two_pages, "GET", JSON))[0] == 503


async def test_a_client_that_disconnects_is_not_an_error(service: Service) -> None:
    service.attempts.pages = [(attempt_row(id=1, error="x" * 1_000_000),) for _ in range(100)]
    with capture_logs() as lines:
        async with service.client.get(CSV) as response:
            await response.content.read(10)
            response.close()
        await until(lambda: any(line["event"] == "request" for line in lines))
    assert [line for line in lines if line["log_level"] != "debug"] == [
        {"event": "an export was interrupted", "error": "the client disconnected", "log_level": "info"}
    ]
    assert service.attempts.pages, "no further pages are searched"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@a", "'@a"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("\uff1d1", "'\uff1d1"),
        (-1.5, -1.5),
        (["=A", "B"], "'=A B"),
        (None, None),
        ("a=1", "a=1"),
    ],
)
def test_no_cell_is_a_formula(value: object, shown: object) -> None:
    assert cell(value) == shown
