"""Finds out which brokers answer, without kafka-python, which tries for a long time and gives the reasons only in its log.

Brokers answer ApiVersions requests from anybody, before any login.
"""

from __future__ import annotations

import functools
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from pipeline.broker.errors import NoSessionError
from pipeline.ops.reachability import speaks_tls, tls_context
from pipeline.ops.settings_kafka import addresses

_CONNECT_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 3.0
_ALL_SECONDS: Final = 7.0
"""For all brokers together. Resolving names may take longer than everything else."""
_OTHERS_SECONDS: Final = 0.5
"""For the other brokers, once one has answered."""

# API key 18 (ApiVersions), version 0, correlation id 1, client id null.
_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)
_MAX_BYTES: Final = 64 * 1024
"""The limit for the size of an answer. A larger number is not Kafka's protocol."""

TLS_WANTED: Final = (
    "This port speaks TLS. Set OMS_WEBHOOKS_KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL, or use the port without TLS."
)
_TLS_FILES: Final = (
    "Check OMS_WEBHOOKS_KAFKA_SSL_CAFILE, OMS_WEBHOOKS_KAFKA_SSL_CERTFILE, OMS_WEBHOOKS_KAFKA_SSL_KEYFILE and "
    "OMS_WEBHOOKS_KAFKA_SSL_PASSWORD."
)


class NoAnswer(NamedTuple):
    """Why a broker did not answer."""

    why: str
    needs_operator: bool = False


_NO_ANSWER: Final = NoAnswer(f"It did not answer within {_ALL_SECONDS:g} s.")


def reach_brokers(config: Mapping[str, Any]) -> list[str]:
    """The ``bootstrap_servers`` of a client's ``config`` that answer, in their order. Blocks for a few seconds at most.

    All are asked at once. When one has answered, the others have half a second left, so that a broker that hangs delays nobody.

    Raises:
        NoSessionError: none answers.
    """
    servers: Sequence[str] = config["bootstrap_servers"]
    results = _heard(config, dict(zip(servers, addresses(",".join(servers)), strict=True)), _OTHERS_SECONDS)
    if met := [server for server in servers if results.get(server, _NO_ANSWER) is None]:
        return met
    silences = {server: results.get(server) or _NO_ANSWER for server in servers}
    reasons = "; ".join(f"{server}: {silence.why}" for server, silence in silences.items())
    needs_operator = any(silence.needs_operator for silence in silences.values())
    raise NoSessionError(f"No Kafka broker can be used. {reasons}", needs_operator=needs_operator)


def silent_brokers(config: Mapping[str, Any], brokers: Mapping[str, tuple[str, int]]) -> dict[str, str]:
    """Which of these brokers do not answer, and why. Blocks for a few seconds at most.

    Raises:
        NoSessionError: the TLS files cannot be used.
    """
    heard = _heard(config, brokers, _ALL_SECONDS)
    silences = {name: heard.get(name, _NO_ANSWER) for name in brokers}
    return {name: silence.why for name, silence in silences.items() if silence is not None}


def _heard(
    config: Mapping[str, Any], servers: Mapping[str, tuple[str, int]], others_seconds: float
) -> dict[str, NoAnswer | None]:
    """Ask all at once. Returns what came in time: why a server did not answer; None if it did."""
    context = _context(config) if config["security_protocol"].endswith("SSL") else None
    answers: SimpleQueue[tuple[str, NoAnswer | None]] = SimpleQueue()
    for server, (host, port) in servers.items():
        asking = functools.partial(_ask, answers, server, host, port, context)
        threading.Thread(target=asking, name="broker meeting", daemon=True).start()
    return dict(_within(answers, len(servers), others_seconds))


def _ask(
    answers: SimpleQueue[tuple[str, NoAnswer | None]], server: str, host: str, port: int, context: ssl.SSLContext | None
) -> None:
    try:
        answers.put((server, _silence(host, port, context)))
    except Exception as error:  # noqa: BLE001 - the caller waits for an answer, whatever it is
        answers.put((server, NoAnswer(f"It could not be checked ({error!r}).")))


def _within(
    answers: SimpleQueue[tuple[str, NoAnswer | None]], count: int, others_seconds: float
) -> Iterator[tuple[str, NoAnswer | None]]:
    """The answers that arrive in time. ``others_seconds``: how long to wait for the others, once a server has answered."""
    deadline = time.monotonic() + _ALL_SECONDS
    for _ in range(count):
        try:
            server, silence = answers.get(timeout=max(deadline - time.monotonic(), 0.001))
        except Empty:
            return
        if silence is None:
            deadline = min(deadline, time.monotonic() + others_seconds)
        yield server, silence


def _context(config: Mapping[str, Any]) -> ssl.SSLContext:
    certificate = config.get("ssl_certfile")
    client = (certificate, config.get("ssl_keyfile"), config.get("ssl_password")) if certificate else None
    try:
        return tls_context(config.get("ssl_cafile"), client)
    except OSError as error:
        message = f"The TLS files for Kafka cannot be used: {error}. {_TLS_FILES}"
        raise NoSessionError(message, needs_operator=True) from error


def _silence(host: str, port: int, context: ssl.SSLContext | None) -> NoAnswer | None:
    """Why a broker does not answer; None if it does."""
    try:
        plain = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
    except OSError as error:
        return NoAnswer(_not_connected(error))
    try:
        with plain:
            plain.settimeout(_ANSWER_SECONDS)
            connection = context.wrap_socket(plain, server_hostname=host) if context else plain
            with connection:
                connection.sendall(_API_VERSIONS)
                size = int.from_bytes(b"".join(_read(connection, 4)), "big")
                if not 0 < size < _MAX_BYTES:
                    raise ConnectionError("the server is not a Kafka broker")
    except OSError as error:
        if context is None and not isinstance(error, TimeoutError) and speaks_tls(host, port):
            return NoAnswer(TLS_WANTED, needs_operator=True)
        return _broken_off(error)
    return None


def _not_connected(error: OSError) -> str:
    match error:
        case socket.gaierror():
            return f"The name cannot be resolved ({error.strerror})."
        case TimeoutError():
            return f"No connection within {_CONNECT_SECONDS:g} s: it is down, or a firewall drops the connection."
        case _:
            return f"Could not connect ({error.strerror or error})."


def _broken_off(error: OSError) -> NoAnswer:
    match error:
        case ssl.SSLCertVerificationError():
            advice = "Check OMS_WEBHOOKS_KAFKA_SSL_CAFILE, the host name and the dates of the certificate."
            return NoAnswer(f"Its certificate is not trusted: {error.verify_message}. {advice}", needs_operator=True)
        case ssl.SSLEOFError():  # as a broker does while it is being stopped
            return NoAnswer("It closes the connection during the TLS handshake.")
        case ssl.SSLError():
            return NoAnswer(f"TLS fails ({error.reason or error}). Does this port speak TLS? {_TLS_FILES}", needs_operator=True)
        case TimeoutError():
            return NoAnswer(f"It accepts connections but does not answer within {_ANSWER_SECONDS:g} s.")
        case _:
            return NoAnswer(f"The connection failed ({error.strerror or error}).")


def _read(connection: socket.socket, size: int) -> Iterator[bytes]:
    while size:
        received = connection.recv(size)
        if not received:
            raise ConnectionResetError("closed without an answer")
        size -= len(received)
        yield received
