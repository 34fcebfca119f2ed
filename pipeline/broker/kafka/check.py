"""What is wrong with Kafka, in words: each broker's address, the credentials, the topics."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kafka.errors import AuthorizationError, KafkaError
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslHandshakeRequest

from pipeline.broker.api import BrokerError
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.ops.certificates import Server, tls_servers
from pipeline.ops.reach import CONNECT_SECONDS, Finding, server_finding, speaks_tls, tls_context
from pipeline.ops.settings import Settings
from pipeline.ops.settings_kafka import addresses

_ANSWER_SECONDS = 10.0


def kafka_findings(settings: Settings) -> Iterator[Finding]:
    """Look at everything; what comes later makes no sense without what came before, so it stops where nothing answers."""
    servers = list(_bootstrap(settings))
    try:
        tls = settings.kafka_security_protocol.endswith("SSL")
        context = tls_context(settings.kafka_ssl_cafile, servers[0].client) if tls else None
    except OSError as error:
        yield Finding(
            "Kafka: TLS files", f"They cannot be used: {error}. Check kafka_ssl_cafile, _certfile, _keyfile, _password."
        )
        return
    reached = [server_finding("Kafka", server.host, server.port, context) for server in servers]
    yield from reached
    if all(finding.problem for finding in reached):
        return
    yield from _beyond_the_address(settings, servers, context)


def _bootstrap(settings: Settings) -> Iterator[Server]:
    if servers := [server for server in tls_servers(settings) if server.name == "kafka"]:
        yield from servers
        return
    for host, port in addresses(settings.kafka_bootstrap_servers):
        yield Server("kafka", host, port)


def _beyond_the_address(settings: Settings, servers: Sequence[Server], context: ssl.SSLContext | None) -> Iterator[Finding]:
    specs = settings.topics.specs()
    with_sasl = settings.kafka_security_protocol.startswith("SASL")
    mechanism = settings.kafka_sasl_mechanism if with_sasl else None
    who = "with a token" if mechanism == "OAUTHBEARER" else f"as {settings.kafka_sasl_username}"
    login = f"Kafka: log in {who}" if mechanism else "Kafka: protocol"
    try:
        with _listening() as said, KafkaTopicAdmin(settings, _ANSWER_SECONDS) as admin:
            differences = admin.differences(specs)
    except BrokerError as error:
        if isinstance(error.__cause__, AuthorizationError):
            why = type(error.__cause__).__name__
            yield Finding("Kafka: topics", f"The user may not look at them ({why}). Grant it DESCRIBE and DESCRIBE_CONFIGS.")
            return
        wants_tls = not settings.kafka_security_protocol.endswith("SSL") and any(
            speaks_tls(server.host, server.port) for server in servers
        )
        if wants_tls:
            yield Finding(login, TLS_WANTED)
        elif mechanism and (offered := _mechanisms(servers, context, mechanism)) and mechanism not in offered:
            yield Finding(login, f"The brokers do not offer {mechanism}, but {', '.join(offered)}. Check kafka_sasl_mechanism.")
        else:
            yield Finding(login, refusal([*said, f"failed: {error.__cause__ or error}"], mechanism))
    else:
        yield Finding(login)
        wrong = {spec.name: [each for each in differences if each.topic == spec.name] for spec in specs}
        for name, found in wrong.items():
            problem = "; ".join(
                "it is missing, or the user may not see it: run `oms-webhooks topics --create`, or grant DESCRIBE"
                if each.found == "missing"
                else f"{each.what} is {each.found}, wanted {each.wanted}"
                for each in found
            )
            yield Finding(f"Kafka: topic {name}", problem or None)


TLS_WANTED = "This port speaks TLS. Set kafka_security_protocol to SSL or SASL_SSL, or take the port without TLS."


def refusal(said: list[str], mechanism: str | None) -> str:
    """Why there was no session, from what kafka-python said: it tries again until the time is over, and only logs why.

    Brokers hang up without a word when credentials are wrong and when a client does not speak what the listener speaks.
    """
    reasons = [text.partition("failed: ")[2].partition(" (backoff")[0] for text in said if "failed: " in text]
    why = next((reason for reason in reasons if "Sasl" in reason or "TokenError" in reason), reasons[0])
    if mechanism is None:
        return f"The port answers and ends the session: it may want SASL. Check kafka_security_protocol and the port. ({why})"
    if "IllegalSaslState" in why:
        return f"The listener takes no SASL. Check kafka_security_protocol and the port. ({why})"
    if "TokenError" in why:
        return f"There is no token: {why.partition('TokenError: ')[2]}."
    if mechanism == "OAUTHBEARER":
        return f"The brokers refuse the token. Check its issuer, audience and lifetime, and the clocks. ({why})"
    return f"The brokers refuse the login. Check kafka_sasl_username, kafka_sasl_password and kafka_sasl_mechanism. ({why})"


def _mechanisms(servers: Sequence[Server], context: ssl.SSLContext | None, mechanism: str) -> list[str]:
    """The SASL mechanisms that the brokers offer to who asks for ``mechanism``; none when no broker tells.

    kafka-python says it in a line of its log among others, and tries again; here it is asked for once, with nothing else in the way.
    """
    for server in servers:
        try:
            with (
                socket.create_connection((server.host, server.port), timeout=CONNECT_SECONDS) as plain,
                context.wrap_socket(plain, server_hostname=server.host) if context else plain as connection,
            ):
                protocol = KafkaProtocol(client_id="oms-webhooks")
                protocol.send_request(SaslHandshakeRequest[1](mechanism=mechanism))
                connection.sendall(protocol.send_bytes())
                while received := connection.recv(4096):
                    for _, response in protocol.receive_bytes(received):
                        return sorted(response.mechanisms)
        except (OSError, KafkaError):
            continue  # the refusal is told without it
    return []


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What kafka-python logs about its connections, instead of in the log."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    source = logging.getLogger("kafka")
    propagates, source.propagate = source.propagate, False
    source.addHandler(handler)
    try:
        yield said
    finally:
        source.removeHandler(handler)
        source.propagate = propagates
