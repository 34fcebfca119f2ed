"""What is wrong with Kafka, in words: each broker's address, the credentials, the topics."""

from __future__ import annotations

from collections.abc import Iterator

from kafka.errors import AuthorizationError, KafkaError, SaslAuthenticationFailedError

from pipeline.broker.admin import TopicAdmin
from pipeline.ops.certificates import Server, tls_servers
from pipeline.ops.reach import Finding, server_finding, tls_context
from pipeline.ops.settings import Settings


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
    yield from _beyond_the_address(settings)


def _bootstrap(settings: Settings) -> Iterator[Server]:
    if servers := [server for server in tls_servers(settings) if server.name == "kafka"]:
        yield from servers
        return
    for server in settings.kafka_bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        yield Server("kafka", host.strip("[]"), int(port))


def _beyond_the_address(settings: Settings) -> Iterator[Finding]:
    specs = settings.topics.specs()
    login = f"Kafka: log in as {settings.kafka_sasl_username}" if settings.kafka_sasl_mechanism else "Kafka: protocol"
    try:
        with TopicAdmin(settings, answer_ms=10_000) as admin:
            yield Finding(login)
            differences = admin.differences(specs)
    except SaslAuthenticationFailedError as error:
        advice = "Check kafka_sasl_mechanism, _username and _password"
        yield Finding(login, f"The brokers refuse the credentials ({error}). {advice}.")
    except AuthorizationError as error:
        yield Finding(
            "Kafka: topics", f"The user may not look at them ({type(error).__name__}). Grant it DESCRIBE and DESCRIBE_CONFIGS."
        )
    except KafkaError as error:
        yield Finding(login, f"The port answers, but not as Kafka ({error!r}). Check kafka_security_protocol and the listener.")
    else:
        wrong = {spec.name: [each for each in differences if each.topic == spec.name] for spec in specs}
        for name, found in wrong.items():
            problem = "; ".join(
                "it is missing, or the user may not see it: run `oms-webhooks topics --create`, or grant DESCRIBE"
                if each.found == "missing"
                else f"{each.what} is {each.found}, wanted {each.wanted}"
                for each in found
            )
            yield Finding(f"Kafka: topic {name}", problem or None)
