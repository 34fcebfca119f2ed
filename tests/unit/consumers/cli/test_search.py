"""``oms-webhooks attempts`` and ``sql``: their requests and their output. The API is a small one on loopback."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import pytest
from typer.testing import CliRunner, Result

from consumers.cli import app

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
        if urlsplit(self.path).path.endswith("/event_types"):
            self._answer(200, {"event_types": [{"name": "order_completed"}, {"name": "refund_issued"}]})
            return
        self.asked.append(("GET", query))
        if "q[s]" in dict(query):
            self._answer(200, _page_by_number(int(dict(query)["page"])))
            return
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


def _page_by_number(number: int) -> dict[str, Any]:
    """Pages of a search with another sort order: 401 attempts, of which at first only 300 are counted."""
    rows = [ATTEMPT | {"id": (number - 1) * 200 + index} for index in range({1: 200, 2: 200, 3: 1}.get(number, 0))]
    total, is_exact = (401, True) if number > 2 else (300, False)
    counted = {"total_count": total, "total_count_is_exact": is_exact, "current_page": number, "pages": -(-total // 200)}
    return {"attempts": rows, **counted, "ignored_filters": [], "next_cursor": None}


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
    return CliRunner().invoke(app.app, [*arguments, "--url", url, "--api-key", "k"], input=text)


def test_options_become_filters_of_the_api(url: str) -> None:
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
    result = run(url, "attempts", *simple, "--q", "error_cont=x=y", "--q", "g][0][m=or", "--after", "c")
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
                ("per_page", "25"),
                ("strict", "1"),
                ("after", "c"),
            ],
        )
    ]


def test_a_table_says_what_was_ignored_and_how_to_continue(url: str) -> None:
    result = run(url, "attempts", "--no-strict")
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


def test_all_pages_of_a_sorted_search_are_printed(url: str) -> None:
    lines = run(url, "attempts", "--all", "--json", "--q", "s=duration_ms desc").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(401))
    assert [dict(asked)["page"] for _, asked in Api.asked] == ["1", "2", "3"]
    Api.asked.clear()
    run(url, "attempts", "--page", "2", "--q", "s=duration_ms desc")
    assert [dict(asked)["page"] for _, asked in Api.asked] == ["2"]


@pytest.mark.parametrize("command", [["attempts"], ["attempts", "resend-failed", "--yes"]])
@pytest.mark.parametrize("query", ["endpoint_id_eq", "=7", ""])
def test_an_invalid_filter_is_refused(url: str, command: list[str], query: str) -> None:
    refused = run(url, *command, "--q", "state_eq=failed", "--q", query)
    assert f"--q {query!r} is not a filter" in str(refused.exception)
    assert Api.asked == []


@pytest.mark.parametrize("query", ["endpoint_id_eq=", "endpoint_id_eq= ", "g][0][endpoint_id_eq="])
def test_a_filter_without_a_value_resends_nothing(url: str, query: str) -> None:
    refused = run(url, "attempts", "resend-failed", "--q", "state_eq=failed", "--q", query, "--yes")
    assert f"--q {query!r} has no value" in str(refused.exception)
    assert Api.asked == []
    searched = run(url, "attempts", "--no-strict", "--q", query)
    assert searched.exit_code == 0, "a search may contain it"
    assert f"--q {query!r} has no value (is a shell variable empty?). It is ignored." in searched.output


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--state", "wrong", "'succeeded', 'failed'"),
        ("--event", "order_complete", "'order_completed'"),
        ("--since", "soon", "soon is not a time or a date, such as"),
        ("--until", "2026-02-30", "2026-02-30 is not a time or a date"),
        *(
            (option, " ", "it has no value")
            for option in ("--order", "--shipment", "--subscription", "--body", "--since", "--until")
        ),
        ("--after", "", "it has no value"),
    ],
)
def test_an_invalid_option_value_is_refused_and_never_widens_the_search(url: str, option: str, value: str, message: str) -> None:
    refused = run(url, "attempts", option, value)
    text = " ".join(refused.output.replace("│", " ").split())
    assert (refused.exit_code, option in text, message in text) == (2, True, True), text
    assert Api.asked == []


def test_times_are_sent_as_intended(url: str) -> None:
    run(url, "attempts", "--since", "yesterday", "--until", "21000301", "--state", "Failed")
    [(_, query)] = Api.asked
    today = datetime.now(UTC).date()
    assert dict(query)["q[created_at_gteq]"] in {str(today - timedelta(days=days)) for days in (1, 2)}
    assert (dict(query)["q[created_at_lteq]"], dict(query)["q[state_eq]"]) == ("2100-03-01", "failed")

    run(url, "attempts", "--since", "-2h")
    sent = datetime.fromisoformat(dict(Api.asked[-1][1])["q[created_at_gteq]"])
    assert timedelta(hours=2) <= datetime.now(UTC) - sent < timedelta(hours=2, minutes=5)


def test_a_filter_may_be_written_as_in_a_link(url: str) -> None:
    run(url, "attempts", "--q", "q[sku_in][]=MUG", "--q", "sku_not_null=1")
    assert Api.asked[-1][1][:2] == [("q[sku_in][]", "MUG"), ("q[sku_not_null]", "1")]


@pytest.mark.parametrize("command", [["resend-failed", "--q", "state_eq=failed", "--yes"], ["resend", "5"]])
def test_options_before_a_command_are_refused_and_not_ignored(url: str, command: list[str]) -> None:
    refused = run(url, "attempts", "--endpoint", "7", *command)
    assert f"Options before {command[0]}" in str(refused.exception)
    assert Api.asked == []


def test_json(url: str) -> None:
    assert json.loads(run(url, "attempts", "--json").stdout)["next_cursor"] == "cursor-1"
    lines = run(url, "attempts", "--all", "--format", "json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [11, 12]


def test_sql(url: str) -> None:
    assert "2 rows" in run(url, "sql", "SELECT 1").stdout
    assert run(url, "sql", "-", "--format", "csv", text="SELECT 2\n").stdout == "n,t\n1,a\n2,'+b\n"
    for form in (("--format", "json"), ("--json",)):
        assert json.loads(run(url, "sql", "SELECT 3", *form).stdout)["rows"] == [[1, "a"], [2, "+b"]]
    assert run(url, "sql", "SELECT 3", "--json", "--format", "csv").exit_code == 2
    assert Api.asked == [("POST", {"statement": text}) for text in ("SELECT 1", "SELECT 2\n", "SELECT 3", "SELECT 3")]


def test_sql_says_to_query_a_clickhouse_server_directly(url: str) -> None:
    result = run(url, "sql", "SELECT missing")
    assert "uses a ClickHouse server" in str(result.exception)


@pytest.mark.parametrize("command", [["attempts"], ["tail"]])
def test_with_strict_a_filter_without_a_value_is_refused_at_once(url: str, command: list[str]) -> None:
    """It used to be reported as ignored, and then the API refused it."""
    refused = run(url, *command, "--q", "endpoint_id_eq=")
    assert "is ignored" not in refused.output
    assert str(refused.exception) == (
        "--q 'endpoint_id_eq=' has no value (is a shell variable empty?). Give it a value, or leave it out."
    )
    assert Api.asked == []


@pytest.mark.parametrize(("word", "message"), [("R123", "'R123' is not a command."), ("list", "--order"), ("resent", "'resend'")])
def test_an_unknown_command_is_answered_with_search_options(word: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    refused = CliRunner().invoke(app.app, ["attempts", word])
    assert refused.exit_code == 2
    assert message in refused.output
    assert ("--body for any text" in refused.output) is (word != "resent")
