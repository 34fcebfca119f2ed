"""A token endpoint of an OpenID provider, on loopback, for client credentials; and the tokens that it issues."""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.secure_kafka import unsigned_token

CLIENT_ID = "webhooks"
CLIENT_SECRET = "client-hunter2"
GRANTED = {"grant_type": ["client_credentials"], "scope": ["kafka"]}


@dataclass
class TokenEndpoint:
    """The requests that it got, and how it answers from now on."""

    url: str = ""
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    lifetime_seconds: float = 3600
    answer: tuple[int, bytes] | None = None
    """The answer instead of a token."""
    seconds: float = 0.0
    """The duration of an answer."""

    def reply(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, bytes]:
        self.asked.append(form)
        time.sleep(self.seconds)
        if self.answer is not None:
            return self.answer
        login = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if authorization != f"Basic {login}":
            return 401, b'{"error": "invalid_client"}'
        if form != GRANTED:
            return 400, b'{"error": "unsupported_grant_type"}'
        token = unsigned_token(CLIENT_ID, time.time(), self.lifetime_seconds)
        answer: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime_seconds}
        return 200, json.dumps(answer).encode()


@contextmanager
def token_endpoint() -> Iterator[TokenEndpoint]:
    """Serve until the block ends."""
    state = TokenEndpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, answer = state.reply(self.headers.get("Authorization", ""), urllib.parse.parse_qs(body))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/token"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
