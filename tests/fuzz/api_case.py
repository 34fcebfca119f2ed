"""The real application behind a real socket, attacked with raw bytes. Only Kafka, ClickHouse and DNS are missing."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from tests.unit.web.service import API_KEY, Service, running_service

PATH: Final = "/api/webhook/endpoints"
_MAX_ENDPOINTS: Final = 50
_SECONDS: Final = 60.0
"""After this time a request hangs, on any machine."""


def _no_dns(host: object, *_: object, **__: object) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, f"tests look up no names, and not {host!r}")


class Attacked:
    """A running service and its event loop."""

    def __init__(self, service: Service, runner: asyncio.Runner) -> None:
        self._service = service
        self._runner = runner

    def ask(self, request_line: bytes, body: bytes = b"") -> tuple[int, Any]:
        """Send a request, check its answer, return status and document; (0, None) if the server hung up without an answer."""
        return self._runner.run(self._ask(request_line, body))

    async def _ask(self, request_line: bytes, body: bytes) -> tuple[int, Any]:
        self._forget()
        status, document = await asyncio.wait_for(self._exchange(request_line, body), _SECONDS)
        # 503: the machine was so busy that Kafka's stand-in did not answer in time.
        assert status < 500 or status == 503, (status, document)
        if status >= 400:
            assert isinstance(document["error"], str)
        assert self._service.kafka.changes is not None, "written records can be read again"
        return status, document

    async def _exchange(self, request_line: bytes, body: bytes) -> tuple[int, Any]:
        host, port = self._service.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"Host: {host}\r\nAuthorization: Bearer {API_KEY}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            writer.write(request_line + b" HTTP/1.1\r\n" + head.encode() + body)
            answered = await reader.read(-1)
        except ConnectionError:  # it answered and closed before it had read all of the refused request
            return 0, None
        finally:
            writer.close()
        if not answered:
            return 0, None
        head_bytes, _, content = answered.partition(b"\r\n\r\n")
        status = int(head_bytes.split(b" ", 2)[1])
        is_json = b"application/json" in head_bytes
        return status, json.loads(content) if is_json and content else {"error": content.decode()}

    def _forget(self) -> None:
        registry = self._service.kafka.registry
        self._service.attempts.queries.clear()
        if len(registry.all()) > _MAX_ENDPOINTS:
            registry._endpoints.clear()
            self._service.kafka.written.clear()
            registry.table._next = 0


@contextmanager
def attacked() -> Iterator[Attacked]:
    """Run the service."""
    stack = AsyncExitStack()
    with patch("socket.getaddrinfo", _no_dns), asyncio.Runner() as runner:
        service = runner.run(stack.enter_async_context(running_service()))
        try:
            yield Attacked(service, runner)
        finally:
            runner.run(stack.aclose())


def check_request(api: Attacked, data: bytes) -> int:
    """Send a request from bytes: the first line is ``METHOD target``, the rest is the body; returns the status."""
    first_line, _, body = data.partition(b"\n")
    status, _ = api.ask(first_line.replace(b"\r", b""), body)
    return status


def check_endpoint(api: Attacked, body: bytes) -> int:
    """Register an endpoint; an accepted one is shown as answered, and can be changed and deleted."""
    status, made = api.ask(f"POST {PATH}".encode(), body)
    if status not in (200, 201):
        assert status in (0, 413, 422, 503), status
        return status
    path = f"{PATH}/{made['id']}".encode()
    shown = {name: made[name] for name in made if name not in {"secret", "ignored_fields"}}
    assert api.ask(b"GET " + path) == (200, shown)
    given = json.loads(body)["endpoint"]
    if status == 201:
        assert made["target_url"] == given["target_url"]
        # An object is returned as expressions, one per path; expressions are returned unchanged.
        assert len(made["filters"]) == len(given.get("filters") or ())
        assert all(isinstance(each, str) for each in made["filters"])
    for method in (b"PUT ", b"PATCH "):
        assert api.ask(method + path, body)[0] == 200
    assert api.ask(b"DELETE " + path)[0] == 204
    return status
