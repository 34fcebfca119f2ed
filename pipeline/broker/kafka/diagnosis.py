"""Finds problems with Kafka: the address of each broker, the credentials, the topics."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator, Sequence

from kafka.errors import AuthorizationError

from pipeline.broker.errors import BrokerError
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.ops.certificates import TlsServer, tls_servers
from pipeline.ops.reachability import CONNECT_SECONDS, CheckResult, server_finding, tls_context
from pipeline.ops.settings import Settings
from pipeline.ops.settings_kafka import addresses

_ANSWER_SECONDS = 10.0
_SIZE = struct.Struct(">I")
_HEAD = struct.Struct(">hhih")
"""The head of a request: API key, version, correlation id, and the length of the client id."""
_SASL_HANDSHAKE = 17
_CLIENT = b"oms-webhooks"


def kafka_findings(settings: Settings) -> Iterator[CheckResult]:
    """Check everything, in an order in which each step needs the previous ones. Stops if no broker can be reached."""
    servers = list(_bootstrap(settings))
    try:
        tls = settings.kafka_security_protocol.endswith("SSL")
        context = tls_context(settings.kafka_ssl_cafile, servers[0].client) if tls else None
    except OSError as error:
        yield CheckResult(
            "Kafka: TLS files", f"They cannot be used: {error}. Check kafka_ssl_cafile, _certfile, _keyfile, _password."
        )
        return
    reached = [server_finding("Kafka", server.host, server.port, context) for server in servers]
    yield from reached
    if all(finding.problem for finding in reached):
        return
    yield from _beyond_the_address(settings, servers, context)


def _bootstrap(settings: Settings) -> Iterator[TlsServer]:
    if servers := [server for server in tls_servers(settings) if server.name == "kafka"]:
        yield from servers
        return
    for host, port in addresses(settings.kafka_bootstrap_servers):
        yield TlsServer("kafka", host, port)


def _beyond_the_address(
    settings: Settings, servers: Sequence[TlsServer], context: ssl.SSLContext | None
) -> Iterator[CheckResult]:
    specs = settings.topics.specs()
    with_sasl = settings.kafka_security_protocol.startswith("SASL")
    mechanism = settings.kafka_sasl_mechanism if with_sasl else None
    who = "with a token" if mechanism == "OAUTHBEARER" else f"as {settings.kafka_sasl_username}"
    login = f"Kafka: log in {who}" if mechanism else "Kafka: protocol"
    try:
        with KafkaTopicAdmin(settings, _ANSWER_SECONDS) as admin:
            differences = admin.differences(specs)
    except BrokerError as error:
        if isinstance(error.__cause__, AuthorizationError):
            why = type(error.__cause__).__name__
            yield CheckResult("Kafka: topics", f"The user may not describe them ({why}). Grant it DESCRIBE and DESCRIBE_CONFIGS.")
        elif mechanism and (offered := _mechanisms(servers, context, mechanism)) and mechanism not in offered:
            advice = "Check OMS_WEBHOOKS_KAFKA_SASL_MECHANISM"
            yield CheckResult(login, f"The brokers do not offer {mechanism}, but {', '.join(offered)}. {advice}.")
        else:
            yield CheckResult(login, str(error))
    else:
        yield CheckResult(login)
        wrong = {spec.name: [each for each in differences if each.topic == spec.name] for spec in specs}
        for name, found in wrong.items():
            problem = "; ".join(
                "it is missing, or the user may not see it: run `oms-webhooks topics --create`, or grant DESCRIBE"
                if each.found == "missing"
                else f"{each.what} is {each.found}, wanted {each.wanted}"
                for each in found
            )
            yield CheckResult(f"Kafka: topic {name}", problem or None)


def _mechanisms(servers: Sequence[TlsServer], context: ssl.SSLContext | None, mechanism: str) -> list[str]:
    """The SASL mechanisms that the brokers offer if ``mechanism`` is requested; none if no broker answers that.

    kafka-python only logs this among other lines, and tries again; here it is requested once, separately.
    """
    for server in servers:
        try:
            with (
                socket.create_connection((server.host, server.port), timeout=CONNECT_SECONDS) as plain,
                context.wrap_socket(plain, server_hostname=server.host) if context else plain as connection,
            ):
                connection.sendall(_handshake(mechanism))
                with connection.makefile("rb") as answer:
                    return _offered(answer.read(*_SIZE.unpack(answer.read(_SIZE.size))))
        except (OSError, struct.error, UnicodeError):
            continue  # the refusal is reported without it
    return []


def _handshake(mechanism: str) -> bytes:
    """SaslHandshake, version 1, of Kafka's protocol (https://kafka.apache.org/protocol)."""
    asked = mechanism.encode()
    request = _HEAD.pack(_SASL_HANDSHAKE, 1, 1, len(_CLIENT)) + _CLIENT + struct.pack(">h", len(asked)) + asked
    return _SIZE.pack(len(request)) + request


def _offered(answer: bytes) -> list[str]:
    """The mechanisms in the answer: after the correlation id and an error code, an array of texts.

    Raises:
        struct.error: it is incomplete.
    """
    found: list[str] = []
    _, _, count = struct.unpack_from(">ihi", answer)
    place = struct.calcsize(">ihi")
    for _ in range(count):
        (length,) = struct.unpack_from(">h", answer, place)
        place += 2
        found.append(answer[place : place + length].decode())
        place += length
    return sorted(found)
