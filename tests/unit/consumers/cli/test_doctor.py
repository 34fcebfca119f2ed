"""``oms-webhooks doctor``: what is wrong, the most important first; and an exit code that says whether anything is."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from consumers.cli import discovery
from consumers.cli import doctor as module
from consumers.cli.app import app
from consumers.cli.runtime_files import RunNote
from pipeline.ops.reachability import CheckResult

ABSENT = RunNote("http://127.0.0.1:9", "key", "127.0.0.1:1", 3)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A pipeline that answers ``/readyz`` with this."""
    answer: dict[str, Any] = {"status": "ready"}

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        note = RunNote(f"http://127.0.0.1:{server.server_port}", "key", "127.0.0.1:1", 3)
        monkeypatch.setattr("consumers.cli.discovery.find_notes", lambda: [note])
        yield answer
        server.shutdown()
        thread.join()


def test_what_nothing_works_without_comes_first(pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = [CheckResult("OMS_WEBHOOKS_KAFK", "It is not a setting"), CheckResult("Kafka: a:9092", "it refuses connections")]
    monkeypatch.setattr(module, "all_findings", lambda: found)
    pipeline |= {"problems": {"recorder": "ClickHouse does not answer"}, "warnings": {"clock": "it is an hour fast"}}
    said = CliRunner().invoke(app, ["doctor"])
    assert said.exit_code == 1
    lines = said.output.splitlines()
    assert [line.partition(": ")[0] for line in lines[:2]] == ["1. Kafka", "2. OMS_WEBHOOKS_KAFK"]
    assert lines[2].endswith(", recorder: ClickHouse does not answer")
    assert lines[3].endswith(", clock: it is an hour fast")


def test_when_all_is_well_it_says_what_it_looked_at(pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "all_findings", lambda: [CheckResult("Kafka: a:9092", None)])
    said = CliRunner().invoke(app, ["doctor"])
    assert said.exit_code == 0
    assert said.output.splitlines()[:2] == ["No problems found. Checked 2 things:", "  Kafka: a:9092"]


def test_a_pipeline_that_does_not_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "all_findings", list)
    monkeypatch.setattr("consumers.cli.discovery.find_notes", lambda: [ABSENT])
    said = CliRunner().invoke(app, ["doctor"])
    assert said.exit_code == 1
    assert "it is not responding" in said.output
    assert "oms-webhooks all" in said.output


def test_of_several_pipelines_the_one_in_the_variable_is_checked(
    pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is what the message about several pipelines says to do."""
    monkeypatch.setattr(module, "all_findings", list)
    ready = discovery.local_pipeline()
    assert ready is not None
    monkeypatch.setattr(discovery, "find_notes", lambda: [ABSENT, ready])
    assert "Choose one, for example with OMS_WEBHOOKS_API_URL=" in CliRunner().invoke(app, ["doctor"]).output
    with pytest.raises(discovery.NoPipelineError) as several:
        discovery.local_pipeline()
    monkeypatch.setattr(module, "all_findings", lambda: [CheckResult("Kafka", str(several.value))])
    assert CliRunner().invoke(app, ["doctor"]).output.count("Choose one, for example") == 1, "the search for Kafka said it"
    monkeypatch.setattr(module, "all_findings", list)
    said = CliRunner().invoke(app, ["doctor"], env={"OMS_WEBHOOKS_API_URL": ready.url})
    assert (said.exit_code, said.output.splitlines()[1:]) == (0, [f"  The pipeline at {ready.url}"])
