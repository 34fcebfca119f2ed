"""Which API commands call, which key they send, and how they report answers that are not from our API."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from consumers.cli.api_client import ApiCallError, ApiClient, ForeignAnswerError, client_for
from consumers.cli.runtime_files import RunNote, leave_note


class Site(BaseHTTPRequestHandler):
    """Answers every GET with ``answer``."""

    asked: ClassVar[list[tuple[str, str | None]]] = []
    answer: ClassVar[tuple[int, str, bytes]] = (200, "application/json", b"{}")

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        status, kind, content = self.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A site. No pipeline runs on this machine."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(Site, "answer", (200, "application/json", b"{}"))
    Site.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def note(url: str) -> RunNote:
    return RunNote(url, "local-key", "127.0.0.1:9092", 3)


def test_the_key_of_the_local_pipeline_is_sent_nowhere_else(url: str) -> None:
    with leave_note(note("http://127.0.0.1:1")):
        with pytest.raises(ApiCallError, match=r"http.* needs an API key\. Use --api-key, or set OMS_WEBHOOKS_API_KEY"):
            client_for(url, None)
        with client_for(url, "given") as client:
            client.call("GET", "endpoints")
    assert Site.asked == [("/api/webhook/endpoints", "Bearer given")]


@pytest.mark.parametrize("suffix", [None, "", "/", "/api/webhook/"])
def test_the_local_pipeline_gets_its_own_key(url: str, suffix: str | None) -> None:
    with leave_note(note(url)), client_for(None if suffix is None else url + suffix, None) as client:
        client.call("GET", "endpoints")
    assert Site.asked == [("/api/webhook/endpoints", "Bearer local-key")]


@pytest.mark.parametrize("url_given", [None, ""])
def test_without_a_url_and_a_local_pipeline_it_says_how_to_start_one(url: str, url_given: str | None) -> None:
    with pytest.raises(ApiCallError, match=r"Start one \(oms-webhooks all\)"):
        client_for(url_given, "key")


@pytest.mark.parametrize("suffix", ["", "/", "/api/webhook", "/api/webhook/"])
def test_the_url_may_include_the_path_of_the_api(url: str, suffix: str) -> None:
    with ApiClient(url + suffix, "key") as client:
        client.call("GET", "endpoints")
    assert [path for path, _ in Site.asked] == ["/api/webhook/endpoints"]


@pytest.mark.parametrize("key", ["omsw_…", "omsw_secret\n", "omsw_secret\r\nX: y", "omsw secret"])
def test_an_invalid_key_is_neither_sent_nor_printed(url: str, key: str) -> None:
    with pytest.raises(ApiCallError, match="The API key contains a character that is not allowed") as raised:
        client_for(url, key)
    assert "secret" not in str(raised.value)
    assert raised.value.__context__ is None
    assert Site.asked == []


@pytest.mark.parametrize("wrong", ["http://[::1", "http://a\nb"])
def test_an_invalid_url_is_refused(wrong: str) -> None:
    with pytest.raises(ApiCallError, match="is not a URL"):
        ApiClient(wrong, "key")


@pytest.mark.parametrize(
    "answer", [(200, "text/html", b"<html>Log in</html>"), (200, "text/plain", b""), (203, "application/json", b"\xff")]
)
def test_another_site_is_not_our_api(url: str, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str, bytes]) -> None:
    monkeypatch.setattr(Site, "answer", answer)
    with (
        ApiClient(url, "key") as client,
        pytest.raises(ApiCallError, match=f"This is not the API.*returned {answer[0]} with {answer[1]}"),
    ):
        client.call("GET", "endpoints")


@pytest.mark.parametrize(("content", "message"), [(b"[1]", "The API returned 404."), (b'{"error": "Gone."}', "Gone.")])
def test_a_refusal_is_reported(url: str, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str) -> None:
    monkeypatch.setattr(Site, "answer", (404, "application/json", content))
    with ApiClient(url, "key") as client, pytest.raises(ApiCallError) as raised:
        client.call("GET", "endpoints")
    assert (str(raised.value), raised.value.status) == (message, 404)


@pytest.mark.parametrize(
    ("status", "kind", "content", "is_foreign"),
    [
        (404, "text/html", b"<html>nginx</html>", True),
        (403, "text/html", b"<html>Forbidden</html>", True),
        (502, "text/html", b"", True),
        (200, "text/html", b"<html>Maintenance</html>", True),
        (404, "application/json", b'{"message": "no Route matched"}', True),
        (403, "application/json", b'{"error": "This needs a key with the operator role."}', False),
    ],
)
def test_a_stream_answered_by_another_server_is_recognized(
    url: str, monkeypatch: pytest.MonkeyPatch, status: int, kind: str, content: bytes, is_foreign: bool
) -> None:
    monkeypatch.setattr(Site, "answer", (status, kind, content))
    with ApiClient(url, "key") as client, pytest.raises(ApiCallError) as raised:
        next(client.events("attempts/live", []))
    assert (isinstance(raised.value, ForeignAnswerError), raised.value.status) == (is_foreign, status)
    assert len(str(raised.value).splitlines()) == 1


def test_an_unreachable_api_is_reported(url: str) -> None:
    """A stream that never began used to say that the API had stopped responding, and https:// at an API without TLS called it
    absent.
    """
    secure = url.replace("http://", "https://")
    for where, why in (
        ("http://127.0.0.1:9", "is not responding (Connection refused). Is it running? Start it with: oms-webhooks all"),
        (secure, "is not responding with TLS (wrong version number). If it has none, use http:// in its URL."),
    ):
        with ApiClient(where, "key") as client:
            for call in (lambda: client.call("GET", "keys"), lambda: next(client.events("attempts/live", []))):
                with pytest.raises(ApiCallError) as raised:
                    call()
                assert (str(raised.value), raised.value.status) == (f"The API at {where}/api/webhook/ {why}", 0)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("endpoints/99", "There is no endpoint 99. To list them, run: oms-webhooks endpoints list"),
        ("endpoints/99/held/drop", "There is no endpoint 99. To list them, run: oms-webhooks endpoints list"),
        ("keys/0a1b2c3d", "There is no API key 0a1b2c3d. To list them, run: oms-webhooks keys list"),
        ("dead_letters/7/dismiss", "There is no dead letter 7. To list them, run: oms-webhooks dead-letters list"),
        ("event_types/a%2Fb", "There is no event type a/b. To list them, run: oms-webhooks event-types list"),
        ("attempts/7/resend", "There is no attempt 7. To list them, run: oms-webhooks attempts"),
        ("resends/0123456789abcdef", "This run was not found."),
        ("sql", "This run was not found."),
    ],
)
def test_a_missing_object_is_named(url: str, monkeypatch: pytest.MonkeyPatch, path: str, message: str) -> None:
    monkeypatch.setattr(Site, "answer", (404, "application/json", b'{"error": "This run was not found."}'))
    with ApiClient(url, "key") as client, pytest.raises(ApiCallError) as raised:
        client.call("GET", path)
    assert (str(raised.value), raised.value.status) == (message, 404)


@pytest.mark.parametrize(
    ("given", "variable", "is_local", "source"),
    [
        ("typed", None, False, "--api-key"),
        ("of-production", "of-production", False, "OMS_WEBHOOKS_API_KEY"),
        (
            "of-production",
            "of-production",
            True,
            "OMS_WEBHOOKS_API_KEY; without this variable, the pipeline on this machine gets its own key",
        ),
    ],
)
def test_a_refused_key_is_reported_with_its_source(
    url: str, monkeypatch: pytest.MonkeyPatch, given: str, variable: str | None, is_local: bool, source: str
) -> None:
    """A variable set for another pipeline takes precedence over the local pipeline's own key."""
    monkeypatch.setattr(Site, "answer", (401, "application/json", b'{"error": "No such key."}'))
    if variable is None:
        monkeypatch.delenv("OMS_WEBHOOKS_API_KEY", raising=False)
    else:
        monkeypatch.setenv("OMS_WEBHOOKS_API_KEY", variable)
    with (
        leave_note(note(url)) if is_local else contextlib.nullcontext(),
        client_for(None if is_local else url, given) as client,
        pytest.raises(ApiCallError) as raised,
    ):
        client.call("GET", "endpoints")
    assert str(raised.value) == f"No such key. The key that was sent is from {source}."
