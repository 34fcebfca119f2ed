"""``oms-webhooks attempts`` and ``sql``: what they ask, and how they print the answer. The API is a small one on loopback."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import pytest
from typer.testing import CliRunner, Result

from consumers import cli

ATTEMPT = {
    "id": 11,
    "event_id": "evt_1",
    "event_name": "order_completed",
    "endpoint_id": 7,
    "target_url": "https://shop.example/[hooks]",
    "outcome": "delivered",
    "attempt": 1,
    "http_status_code": 204,
    "failure": None,
    "error": "=HYPERLINK(1)",
    "duration_ms": 12.5,
    "created_at": "2026-03-02T15:05:00.007Z",
    "order_number": "R1",
    "stock_item_id": None,
    "skus": ["MUG", "CUP"],
}


class Api(BaseHTTPRequestHandler):
    asked: ClassVar[list[tuple[str, Any]]] = []
    status = 200

    def do_GET(self) -> None:
        query = parse_qsl(urlsplit(self.path).query)
        self.asked.append(("GET", query))
        is_last = dict(query).get("after") == "cursor-1"
        page = {
            "attempts": [ATTEMPT | {"id": 12 if is_last else 11}],
            "total_count": 1000,
            "total_count_is_exact": False,
            "current_page": 1,
            "pages": 40,
            "ignored_filters": ["typo_eq: attempts have no attribute typo"],
            "next_cursor": None if is_last else "cursor-1",
        }
        self._answer(200, page)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(("POST", asked))
        if "missing" in asked["statement"]:
            self._answer(404, {"error": "not found"})
        else:
            self._answer(200, {"columns": [["n", "UInt64"], ["t", "String"]], "rows": [[1, "a"], [2, "+b"]], "seconds": 0.01})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Api.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(url: str, *arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(cli.app, [*arguments, "--url", url, "--api-key", "k"], input=text)


def test_filters_are_those_of_the_api(url: str) -> None:
    simple = [
        "--order",
        "R1",
        "--shipment",
        "H1",
        "--shipment",
        "H2",
        "--endpoint",
        "7",
        "--body",
        "a=b",
        "--since",
        "2026-01-01",
    ]
    result = run(url, "attempts", *simple, "--q", "error_cont=x=y", "--q", "g][0][m=or", "--strict", "--after", "c")
    assert result.exit_code == 0, result.output
    assert Api.asked == [
        (
            "GET",
            [
                ("q[order_number_eq]", "R1"),
                ("q[endpoint_id_eq]", "7"),
                ("q[request_body_cont]", "a=b"),
                ("q[created_at_gteq]", "2026-01-01"),
                ("q[shipment_number_in][]", "H1"),
                ("q[shipment_number_in][]", "H2"),
                ("q[error_cont]", "x=y"),
                ("q[g][0][m]", "or"),
                ("page", "1"),
                ("per_page", "25"),
                ("strict", "1"),
                ("after", "c"),
            ],
        )
    ]


def test_a_table_says_what_was_ignored_and_how_to_go_on(url: str) -> None:
    result = run(url, "attempts")
    assert "Ignored filters: typo_eq" in result.output
    assert "1,000 attempts or more" in result.output
    assert "cursor-1" in result.output


def test_in_a_pipe_an_attempt_is_a_line(url: str) -> None:
    (line,) = [line for line in run(url, "attempts").output.splitlines() if "R1" in line]
    for cell in (
        "11",
        "2026-03-02T15:05:00.007Z",
        "order_completed",
        "7 https://shop.example/[hooks]",
        "delivered",
        "=HYPERLINK(1)",
    ):
        assert f" {cell} " in line


def test_csv_of_all_pages_has_one_header(url: str) -> None:
    result = run(url, "attempts", "--all", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["id"] for row in rows] == ["11", "12"]
    assert (rows[0]["skus"], rows[0]["error"], rows[0]["failure"]) == ("MUG CUP", "'=HYPERLINK(1)", "")
    assert [dict(asked).get("after") for _, asked in Api.asked] == [None, "cursor-1"]
    assert "Ignored filters: typo_eq" in result.stderr


def test_json(url: str) -> None:
    assert json.loads(run(url, "attempts", "--json").stdout)["next_cursor"] == "cursor-1"
    lines = run(url, "attempts", "--all", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [11, 12]


def test_sql(url: str) -> None:
    assert "2 rows" in run(url, "sql", "SELECT 1").stdout
    assert run(url, "sql", "-", "--format", "csv", text="SELECT 2\n").stdout == "n,t\n1,a\n2,'+b\n"
    assert json.loads(run(url, "sql", "SELECT 3", "--format", "json").stdout)["rows"] == [[1, "a"], [2, "+b"]]
    assert Api.asked == [("POST", {"statement": text}) for text in ("SELECT 1", "SELECT 2\n", "SELECT 3")]


def test_sql_says_where_else_to_ask(url: str) -> None:
    result = run(url, "sql", "SELECT missing")
    assert "ClickHouse server of its own" in str(result.exception)
