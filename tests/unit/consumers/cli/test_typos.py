"""Mistyped commands are refused before any request is made, and the message says what to type. No typo affects more than intended.

Commands with a wrong URL recognize that the answer is not from our API: no traceback, and no false success.
"""

from __future__ import annotations

import contextlib
import errno
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner, Result

from consumers.cli import app, entry, standard_input
from consumers.cli.api_client import ApiCallError, ApiClient
from consumers.cli.plain_errors import given_twice

NOBODY = "http://127.0.0.1:1"


class AnyServer(BaseHTTPRequestHandler):
    """Gives the same answer to every request, and records the requests."""

    answer: ClassVar[tuple[int, str, bytes]] = (200, "application/json", b"{}")
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append(f"{self.command} {self.path}")
        status, kind, content = self.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status == 301:
            self.send_header("Location", "https://hooks.example.com/api/webhook/keys")
        self.send_header("Content-Length", str(len(content)))
        with contextlib.suppress(BrokenPipeError):  # the client has stopped waiting
            self.end_headers()
            self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def any_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(AnyServer, "answer", AnyServer.answer)
    AnyServer.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), AnyServer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(*arguments: str, url: str = NOBODY, stdin: str | bytes | None = None) -> Result:
    env = {"OMS_WEBHOOKS_API_URL": url, "OMS_WEBHOOKS_API_KEY": "k", "COLUMNS": "200", "NO_COLOR": "1"}
    return CliRunner().invoke(app.app, arguments, env=env, input=stdin)


def output_of(result: Result) -> str:
    return " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # These deleted endpoint 7, and endpoint 10.
        ("keys revoke ../endpoints/7", "8 characters of 0-9 and a-f"),
        ("endpoints remove 1_0", "It must be a whole number."),
        ("keys revoke ..", "8 characters of 0-9 and a-f"),
        ("event-types remove ..", "this is not the name of an event type"),
        ("event-types show Refund_Issued", "Names consist of a-z, 0-9 and _"),
        ("endpoints pause 1e3", "It must be a whole number."),
        ("attempts resend -- -5", "It must be a whole number."),
        ("attempts --endpoint 1_0", "It must be a whole number."),
        ("dead-letters show 5x", "It must be a whole number."),
        ("replay --endpoint 1_0 --since yesterday", "It must be a whole number."),
        # Options that would have had no effect.
        ("endpoints sign 1 --v1a --encoding base64", "--encoding and --prefix need --header"),
        ("endpoints sign 1 --no-header --prefix sha256=", "--encoding and --prefix need --header"),
        ("attempts --all --page 3", "--all prints every page; leave --page out"),
        ("attempts --after c --page 3", "--after says where to continue; leave --page out"),
        ("attempts --json --format csv", "Use --json or --format, not both"),
        ("event-types show x --json --as-file", "Use --json or --as-file, not both"),
        ("settings --check --toml", "Use --check or --toml, not both"),
        ("topics --topic oms.orders", "It needs --add-partitions N"),
        ("topics --accept-recreated oms.orders --add-partitions 5", "cannot be combined with --create, --add-partitions"),
        ("topics --accept-recreated oms.parcels --event-topic oms.parcels", "cannot be combined with --create, --add-partitions"),
        ("topics --begin-anew oms.orders --create", "cannot be combined with --create, --add-partitions"),
        ("topics --begin-anew oms.orders --accept-recreated oms.shipments", "--begin-anew is its former name"),
        ("topics --yes", "It needs --add-partitions N or --accept-recreated TOPIC"),
        ("topics --create --yes", "It needs --add-partitions N or --accept-recreated TOPIC"),
        ("schema --offline --url http://a", "With --offline, no pipeline is asked"),
        ("event-types list --offline --api-key k", "With --offline, no pipeline is asked"),
        ("receiver --status 503", "Use them with --fail-rate or --fail-first"),
        ("receiver --failure hang", "Use them with --fail-rate or --fail-first"),
        ("receiver --fail-first 1 --failure hang --status 503", "--failure hang has no status code"),
        ("replay --in-doubt send --endpoint 1 --since yesterday", "It needs --resume FILE"),
        ("replay --resume f --order R1 --endpoint 9", "Leave out --endpoint, --order"),
        ("publish --strict", "It needs --check"),
        # Only the last of two values counted: half of what should have been erased was.
        ("erase --order R1 --order R2 --yes", "--order: It was given twice, but takes only one value."),
        ("attempts --state failed --state=succeeded", "--state: It was given twice"),
        ("attempts resend-failed --q a_eq=1 --url http://a --url http://b", "--url: It was given twice"),
        ("endpoints ordered 1 --on --off", "--on and --off: Use only one of them."),
        ("endpoints sign 1 --no-v1a --v1a", "--no-v1a and --v1a: Use only one of them."),
        ("attempts --no-strict --strict", "--no-strict and --strict: Use only one of them."),
        # Problems that were reported in words of the API, or not at all.
        ("endpoints show 9999999999999999999", "It must be a whole number of at most 18 digits."),
        # Without a pin, for example because of an empty variable, this removed all pins.
        ("endpoints pin 1", "Use pins such as refund_issued=1, or --remove."),
        ("endpoints pin 1 refund_issued=1 --remove", "Use pins such as refund_issued=1, or --remove."),
        ("endpoints pin 1 refund_issued", "'refund_issued' is not a list of pins. Write each event type once"),
        ("endpoints pin 1 a=1 a=2", "'a=1,a=2' is not a list of pins. Write each event type once"),
        ("endpoints preview --event a --pin x", "'x' is not a list of pins."),
        ("sql -", "The statement is empty. Is a shell variable empty?"),
        ("retention --days 99999999999", "It must be 365000 or less."),
        ("replay --endpoint 1 --since -1h --state ..", "it is a directory"),
        # Reversed times.
        ("attempts --since 2026-03-02 --until 2026-03-01", "so nothing can match"),
        ("attempts --since -1h --until -2h", "so nothing can match"),
        ("replay --endpoint 1 --since 2026-03-02 --until 2026-03-02", "earlier than --until"),
        ("replay --endpoint 1 --since tomorrow", "earlier than --until (default: now)"),
        # Numbers that ended in a traceback, or did nothing.
        ("demo --rate 0", "It must be 0.01 or more"),
        ("simulate --count 0", "It must be 1 or more"),
    ],
)
def test_a_typo_is_refused_without_a_request(arguments: str, message: str) -> None:
    refused = run(*arguments.split(), stdin="")
    assert (refused.exit_code, message in output_of(refused)) == (2, True), output_of(refused)


@pytest.mark.parametrize(
    "arguments",
    [
        "attempts --shipment H1 --shipment H2 --q a_eq=1 --q b_eq=2",
        "attempts --body --order --order R1",
        "attempts --all --all",
        "attempts --no-strict --no-strict",
        "attempts --body --off --no-strict",
        "attempts --order R1 resend --url http://a 5",
        "open -- --url --url",
        "--version",
    ],
)
def test_options_that_may_be_repeated(arguments: str) -> None:
    assert given_twice(get_command(app.app), arguments.split()) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("endpoints", "pin", "1", ""),
        ("grants", "--kafka-principal", ""),
        ("grants", "--clickhouse-user", " "),
        ("receiver", "--basic", "", "--port", "0"),
        ("receiver", "--header-key", "", "--port", "0"),
        ("receiver", "--public-key", "", "--port", "0"),
        ("receiver", "--allow-origin", "", "--port", "0"),
        ("replay", "--endpoint", "1", "--since", "-1h", "--state", "", "--yes"),
        ("replay", "--resume", ""),
        ("endpoints", "add", "http://127.0.0.1/", "--event", "order_completed", "--pin", " "),
        ("keys", "create", "--name", "", "--role", "viewer"),
        ("keys", "create", "--name", "Ada", "--role", "viewer", "--owner", ""),
        ("topics", "--accept-recreated", ""),
        ("open", " "),
        # These removed endpoint 7 of the local pipeline, with its admin key.
        ("endpoints", "remove", "7", "--url", ""),
        ("keys", "list", "--api-key", ""),
        ("attempts", "--url", " "),
        ("tail", "--api-key", ""),
        ("open", "R1", "--url", ""),
    ],
)
def test_an_empty_shell_variable_is_refused(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # no local pipeline is found if one is not refused
    refused = run(*arguments)
    assert (refused.exit_code, "is a shell variable empty?" in output_of(refused).lower()) == (2, True), output_of(refused)


def test_an_empty_variable_of_the_api_counts_as_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # no pipeline has left a note here
    env = {"OMS_WEBHOOKS_API_URL": "", "OMS_WEBHOOKS_API_KEY": ""}
    for command in ("keys list", "attempts"):
        asked = CliRunner().invoke(app.app, command.split(), env=env)
        assert str(asked.exception).startswith("No running pipeline was found on this machine."), command


def test_a_single_day_is_not_a_reversed_range(any_server: str) -> None:
    run("attempts", "--since", "2026-03-02", "--until", "2026-03-02", url=any_server)
    assert len(AnyServer.asked) == 1


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", "no JSON", '{"run": 1, "replay": {}, "total": 1}', '{"run": "a", "replay": {}, "total": 1, "path": "x"}'],
)
def test_an_invalid_replay_file_sends_nothing(tmp_path: Path, content: str) -> None:
    file = tmp_path / "replay.json"
    file.write_text(content)
    refused = run("replay", "--resume", str(file))
    assert isinstance(refused.exception, ApiCallError)
    assert str(refused.exception) == f"{file} was not created by `oms-webhooks replay`."


@pytest.mark.parametrize("command", ["sql -", "erase --order -", "endpoints import -", "publish --check"])
def test_closed_or_invalid_standard_input_is_refused(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if command != "publish --check":  # which reports bytes that are not an event
        refused = run(*command.split(), stdin=b"\xff")
        assert (refused.exit_code, "is not valid UTF-8 text" in output_of(refused)) == (2, True), output_of(refused)
    monkeypatch.setattr("consumers.cli.standard_input.sys.stdin", None)  # as Python sets it; the runner replaces another one
    with pytest.raises(typer.BadParameter, match="is closed"):
        standard_input.read_bytes()
    assert not standard_input.is_terminal()


@pytest.mark.parametrize("command", ["attempts --order \udcff", "sql \udcff", "tail --q error_cont=\udcff"])
def test_invalid_utf_8_is_not_sent(command: str, any_server: str) -> None:
    refused = run(*command.split(" "), url=any_server)
    assert str(refused.exception) == "An argument is not valid UTF-8 text. Nothing was sent."
    assert AnyServer.asked == []
    assert run("open", "\udcff").exit_code == 2


def test_a_full_disk_is_reported_in_a_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[int] = []
    monkeypatch.setattr("consumers.cli.entry.os.dup2", lambda _, number: turned.append(number))

    def write() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SystemExit) as ended:
        entry._run(write, ())
    assert (ended.value.code, turned) == (1, [1])
    assert "the output cannot be written (No space left on device)" in capsys.readouterr().err


# --- answers that are not from our API ---

COMMANDS = [
    "endpoints list",
    "endpoints show 1",
    "endpoints pause 1",
    "endpoints disable 1",
    "endpoints resume 1",
    "endpoints remove 1 --yes",
    "endpoints verification 1 none",
    "endpoints test 1",
    "endpoints export -",
    "attempts --all",
    "attempts resend 1",
    "attempts resend-failed --q endpoint_id_eq=1 --yes",
    "keys list",
    "keys revoke abcdef12 --yes",
    "replay --endpoint 1 --since yesterday --yes",
    "erase --order R1 --yes",
    "sql SELECT",
]


@pytest.mark.parametrize(
    "content",
    [b"{}", *(pytest.param(other, marks=pytest.mark.slow) for other in (b"[]", b'"ok"', b"null"))],
)
def test_foreign_json_causes_neither_a_traceback_nor_a_success(any_server: str, content: bytes) -> None:
    """It takes a second or more: every command is run, each time."""
    AnyServer.answer = (200, "application/json", content)
    for command in COMMANDS:
        done = run(*command.split(), url=any_server)
        assert isinstance(done.exception, ApiCallError), command
        assert done.exit_code == 1
        assert "OMS webhooks" in str(done.exception) or "not a backup" in str(done.exception), command


@pytest.mark.parametrize("command", ["disable", "pause"])
def test_a_field_ignored_by_an_earlier_release_is_not_reported_as_changed(any_server: str, command: str) -> None:
    AnyServer.answer = (200, "application/json", b'{"id": 1, "active": true, "ignored_fields": ["disabled"]}')
    done = run("endpoints", command, "1", url=any_server)
    assert str(done.exception) == "Endpoint 1 is still active: the API did not change it."
    assert "The API ignored unknown fields: disabled." in done.stderr


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, "text/html", b"<html>"), "returned 404 with text/html. Check --url. A proxy in front of the API"),
        ((502, "text/html", b"<html>"), "returned 502 with text/html"),
        ((301, "text/html", b""), "redirects to https://hooks.example.com. If that is the API, use it as --url."),
        ((422, "application/json", b'{"errors": ["x"]}'), "The API returned 422."),
        ((422, "application/json", b'{"errors": {"f": "text"}}'), "The API returned 422.\n  f: text"),
        ((500, "application/json", b'{"error": {"code": 5}}'), "The API returned 500."),
        ((200, "text/html", b"<html>"), "This is not the API of OMS webhooks"),
    ],
)
def test_foreign_refusals_are_reported(any_server: str, answer: tuple[int, str, bytes], message: str) -> None:
    AnyServer.answer = answer
    for command in ("keys list", "endpoints export -", "tail"):
        refused = run(*command.split(), url=any_server)
        assert isinstance(refused.exception, ApiCallError), command
        assert message in str(refused.exception), command


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://x", "http://", "http://h:99999", "http://h?x=1", "http://h#f", "http://a b"]
)
def test_an_invalid_url_is_reported(url: str) -> None:
    for command in ("keys list", "open R1"):
        refused = run(*command.split(), url=url)
        assert str(refused.exception) == f"{url!r} is not a URL of the API. Use one such as http://127.0.0.1:8080."


def test_a_password_in_a_url_is_neither_sent_nor_printed() -> None:
    refused = run("keys", "list", url="http://ada:s3cret@127.0.0.1:1")
    assert "must not contain a user name or password" in str(refused.exception)
    assert "s3cret" not in refused.output + str(refused.exception)


def test_an_absent_api_is_reported_without_error_numbers() -> None:
    refused = run("keys", "list")
    assert "is not responding (Connection refused). Is it running?" in str(refused.exception)


def test_a_request_without_an_answer_may_have_been_carried_out(any_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(AnyServer, "log_request", lambda *_: release.wait(30))
    with ApiClient(any_server, "k") as client:
        for method, doubt in (
            ("GET", ""),
            ("POST", " The request may have been carried out anyway. Check before you repeat it."),
        ):
            with pytest.raises(ApiCallError) as raised:
                client.call(method, "keys", seconds=0.2)
            assert str(raised.value).endswith(f"/api/webhook/ did not respond within 0.2 seconds.{doubt}")
    release.set()


def test_a_path_cannot_leave_its_resource(any_server: str) -> None:
    with ApiClient(any_server, "k") as client:
        for path in ("keys/../endpoints/7", "keys/.", "keys/"):
            with pytest.raises(ApiCallError, match="not a valid API path"):
                client.call("DELETE", path)
    assert AnyServer.asked == []


def test_csv_without_rows_has_a_header(any_server: str) -> None:
    page = {"attempts": [], "total_count": 0, "total_count_is_exact": True, "current_page": 1, "pages": 0, "next_cursor": None}
    AnyServer.answer = (200, "application/json", json.dumps(page | {"ignored_filters": []}).encode())
    assert run("attempts", "--format", "csv", url=any_server).stdout.startswith("id,event_id,event_name,")
