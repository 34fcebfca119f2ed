"""``oms-webhooks doctor``: problems, most important first, and an exit code that says whether there are any."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from consumers.cli import discovery
from consumers.cli import doctor as module
from consumers.cli.app import app
from consumers.cli.runtime_files import RunNote
from pipeline.ops.reachability import CheckResult

ABSENT = RunNote("http://127.0.0.1:9", "key", "127.0.0.1:1", 3)


class _Api(BaseHTTPRequestHandler):
    readiness: ClassVar[dict[str, Any]] = {}
    roles: ClassVar[dict[str, str]] = {}
    release: ClassVar[str | None] = None
    page: ClassVar[tuple[int, str] | None] = None
    """The answer of a proxy in front of the API."""

    def do_GET(self) -> None:
        path, role = self.path.removeprefix("/api/webhook/"), self.roles.get(self.headers.get("Authorization", "")[7:])
        if path == "/readyz":
            self._answer(200, self.readiness)
        elif self.page is not None:
            self._answer(*self.page, kind="text/html")
        elif path == "openapi.json":
            self._answer(*((404, {"error": "Gone."}) if self.release is None else (200, {"info": {"version": self.release}})))
        elif role is None:
            self._answer(401, {"error": "The API key is not valid."})
        elif path == "keys":
            may_list = role == "admin"
            self._answer(
                200 if may_list else 403, {"keys": []} if may_list else {"error": "This needs a key with the admin role."}
            )
        else:
            self._answer(*((422, {"error": "Add a filter."}) if role == "operator" else (403, {"error": "It may not."})))

    def _answer(self, status: int, content: object, kind: str = "application/json") -> None:
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A pipeline that gives this answer to ``/readyz``. A key in ``roles`` has that role."""
    answer: dict[str, Any] = {"status": "ready"}
    _Api.readiness = answer
    _Api.roles, _Api.release, _Api.page = {"key": "admin"}, version("oms-webhooks"), None

    with ThreadingHTTPServer(("127.0.0.1", 0), _Api) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        note = RunNote(f"http://127.0.0.1:{server.server_port}", "key", "127.0.0.1:1", 3)
        monkeypatch.setattr("consumers.cli.discovery.find_notes", lambda: [note])
        yield answer
        server.shutdown()
        thread.join()


def test_the_most_important_problems_come_first(pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = [CheckResult("OMS_WEBHOOKS_KAFK", "It is not a setting"), CheckResult("Kafka: a:9092", "it refuses connections")]
    monkeypatch.setattr(module, "all_findings", lambda: found)
    pipeline |= {"problems": {"recorder": "ClickHouse does not answer"}, "warnings": {"clock": "it is an hour fast"}}
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert [line.partition(": ")[0] for line in lines[:2]] == ["1. Kafka", "2. OMS_WEBHOOKS_KAFK"]
    assert lines[2].endswith(", recorder: ClickHouse does not answer")
    assert lines[3].endswith(", clock: it is an hour fast")
    as_json = CliRunner().invoke(app, ["doctor", "--json"])
    findings = json.loads(as_json.stdout)["findings"]
    assert (as_json.exit_code, findings[0]) == (1, {"what": "Kafka: a:9092", "problem": "it refuses connections"})
    assert [one["problem"] is None for one in findings] == [False] * 4 + [True], "problems come first"


def test_when_all_is_well_it_says_what_it_checked(pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "all_findings", lambda: [CheckResult("Kafka: a:9092", None)])
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert result.output.splitlines()[:2] == ["No problems found. Checked 3 things:", "  Kafka: a:9092"]


def test_an_unresponsive_pipeline_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "all_findings", list)
    monkeypatch.setattr("consumers.cli.discovery.find_notes", lambda: [ABSENT])
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "it is not responding" in result.output
    assert "oms-webhooks all" in result.output


def test_the_pipeline_in_the_variable_is_checked_if_there_are_several(
    pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message about several pipelines says to set the variable."""
    monkeypatch.setattr(module, "all_findings", list)
    ready = discovery.local_pipeline()
    assert ready is not None
    monkeypatch.setattr(discovery, "find_notes", lambda: [ABSENT, ready])
    assert "Choose one, for example with OMS_WEBHOOKS_API_URL=" in CliRunner().invoke(app, ["doctor"]).output
    with pytest.raises(discovery.NoPipelineError) as several:
        discovery.local_pipeline()
    monkeypatch.setattr(module, "all_findings", lambda: [CheckResult("Kafka", str(several.value))])
    assert CliRunner().invoke(app, ["doctor"]).output.count("Choose one, for example") == 1, "printed when Kafka was looked for"
    monkeypatch.setattr(module, "all_findings", list)
    result = CliRunner().invoke(app, ["doctor"], env={"OMS_WEBHOOKS_API_URL": ready.url})
    assert (result.exit_code, result.output.splitlines()[1:]) == (
        0,
        [f"  The API at {ready.url}: the key has the admin role", f"  The pipeline at {ready.url}"],
    )


@pytest.fixture
def remote(pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a pipeline on another machine. Nothing is configured here."""
    ready = discovery.local_pipeline()
    assert ready is not None
    monkeypatch.setattr(discovery, "find_notes", list)
    monkeypatch.setattr(module, "all_findings", lambda: [CheckResult("Kafka", "No Kafka is configured.")])
    _Api.roles |= {"of-an-operator": "operator", "of-a-viewer": "viewer"}
    return ready.url


def doctor(url: str | None, key: str | None) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, ["doctor"], env={"OMS_WEBHOOKS_API_URL": url, "OMS_WEBHOOKS_API_KEY": key})
    assert not key or key not in result.output, "the key is never printed"
    return result.exit_code, result.output.splitlines()


@pytest.mark.parametrize(("key", "role"), [("key", "admin"), ("of-an-operator", "operator"), ("of-a-viewer", "viewer")])
@pytest.mark.parametrize("is_told", [True, False])
def test_the_role_of_the_key_is_checked_for_a_remote_api(remote: str, key: str, role: str, is_told: bool) -> None:
    """It needs no local Kafka, and an API that does not return its release is not a problem."""
    if not is_told:
        _Api.release = None
    _Api.roles = {f"{one}-secret": given for one, given in _Api.roles.items()}
    sentence = f"  The API at {remote}: the key has the {role} role"
    assert doctor(f"{remote}/api/webhook", f"{key}-secret") == (0, ["No problems found. Checked 1 thing:", sentence])


def test_problems_of_the_remote_api_are_reported(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = f"{remote}/api/webhook/"
    absent = "1. OMS_WEBHOOKS_API_URL: The API at http://127.0.0.1:9/api/webhook/ is not responding (Connection refused)."
    assert doctor("http://127.0.0.1:9", "some-key") == (1, [f"{absent} Is it running? Start it with: oms-webhooks all"])
    refused = "1. OMS_WEBHOOKS_API_KEY: The API key is not valid. The key that was sent is from OMS_WEBHOOKS_API_KEY."
    assert doctor(remote, "wrong-key") == (1, [refused])
    missing = f"1. OMS_WEBHOOKS_API_KEY: {remote} needs an API key. Use --api-key, or set OMS_WEBHOOKS_API_KEY."
    assert doctor(remote, None) == (1, [missing])
    assert doctor(remote, "wrong\u2026")[1][0].startswith("1. OMS_WEBHOOKS_API_KEY: The API key contains a character")
    assert doctor("htp://x", "some-key")[1][0].startswith("1. OMS_WEBHOOKS_API_URL: 'htp://x' is not a URL of the API.")
    monkeypatch.setattr(_Api, "page", (404, "<html>nginx</html>"))
    foreign = f"1. OMS_WEBHOOKS_API_URL: This is not the API of OMS webhooks: {base} returned 404 with text/html."
    assert doctor(remote, "some-key")[1][0].startswith(foreign)
    monkeypatch.setattr(_Api, "page", None)
    monkeypatch.setattr(_Api, "release", "0.0.7")
    release = (
        f"{remote} is release 0.0.7, and this command is release {version('oms-webhooks')}. Use the same release on both sides."
    )
    role = f"The API at {remote}: the key has the viewer role."
    assert doctor(remote, "of-a-viewer") == (1, [f"1. OMS_WEBHOOKS_API_URL: {release}", role])


def test_the_api_is_listed_after_kafka_and_before_the_rest(remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [CheckResult("OMS_WEBHOOKS_KAFK", "It is not a setting"), CheckResult("Kafka: a:9092", "it refuses connections")]
    monkeypatch.setattr(module, "all_findings", lambda: found)
    lines = doctor(remote, "wrong-key")[1]
    assert [line.partition(": ")[0] for line in lines] == ["1. Kafka", "2. OMS_WEBHOOKS_API_KEY", "3. OMS_WEBHOOKS_KAFK"]


def test_a_key_without_an_api_is_reported(remote: str) -> None:
    lines = doctor(None, "some-key")[1]
    assert lines[1] == (
        "2. OMS_WEBHOOKS_API_URL: It is not set, and no pipeline is running on this machine, so OMS_WEBHOOKS_API_KEY has no effect."
    )


def test_a_key_refused_by_the_local_pipeline_is_reported(pipeline: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable set for another pipeline takes precedence over the local pipeline's own key."""
    monkeypatch.setattr(module, "all_findings", list)
    code, lines = doctor(None, "of-another")
    assert (code, lines[0].endswith("without this variable, the pipeline on this machine gets its own key.")) == (1, True)
