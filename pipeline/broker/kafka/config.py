"""The connection arguments of every kafka-python client, from the settings."""

from __future__ import annotations

from typing import Any

from kafka.errors import KafkaError as KafkaError  # noqa: PLC0414 - exported: the command line must not import kafka

from pipeline.broker.kafka.oauth import token_provider
from pipeline.broker.kafka.session import SESSION_MS
from pipeline.ops.settings import Settings

# Room for the largest record with its metadata in one request.
_REQUEST_BYTES = 32 * 1024 * 1024
# As much as a fast fan-out writes in the time of `kafka_linger_ms`, and less than brokers accept by default (1 MiB). For each
# batch, kafka-python's thread asks the event loop's for the interpreter many times: a third of this size, and half the time, cost
# a tenth more CPU for each delivery (tests/bench/path.py).
_BATCH_BYTES = 768 * 1024

_REQUEST_MS = 10_000
"""How long an answer may take. A broker that hangs (a frozen machine) keeps its connections: until this time is over,
kafka-python waits for it, although the other brokers have replaced it long before.
"""
_ANSWER_MS = 5_000
"""The part of it that is added to the time for which a broker may hold a fetch."""


def client_config(settings: Settings) -> dict[str, Any]:
    """Addresses, TLS and SASL."""
    config: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.kafka_bootstrap_servers.split(",")],
        "security_protocol": settings.kafka_security_protocol,
        "reconnect_backoff_max_ms": 2_000,
        "bootstrap_timeout_ms": SESSION_MS,
        "request_timeout_ms": _REQUEST_MS,
        "metadata_max_age_ms": settings.kafka_metadata_max_age_ms,
    }
    if settings.kafka_ssl_cafile:
        config["ssl_cafile"] = str(settings.kafka_ssl_cafile)
    if settings.kafka_ssl_certfile:
        config["ssl_certfile"] = str(settings.kafka_ssl_certfile)
    if settings.kafka_ssl_keyfile:
        config["ssl_keyfile"] = str(settings.kafka_ssl_keyfile)
    if settings.kafka_ssl_password:
        config["ssl_password"] = settings.kafka_ssl_password.get_secret_value()
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        config["sasl_mechanism"] = settings.kafka_sasl_mechanism
        config["sasl_oauth_token_provider"] = token_provider(settings)
    elif settings.kafka_sasl_mechanism and settings.kafka_sasl_password:
        config["sasl_mechanism"] = settings.kafka_sasl_mechanism
        config["sasl_plain_username"] = settings.kafka_sasl_username
        config["sasl_plain_password"] = settings.kafka_sasl_password.get_secret_value()
    return config


def heartbeat_ms(settings: Settings) -> int:
    """Through its heartbeats an idle member learns that another one is gone; this time is added to the session of the dead
    member.
    """
    return min(3_000, settings.kafka_session_timeout_ms // 10)


def consumer_config(settings: Settings) -> dict[str, Any]:
    """The further arguments of every consumer: we manage commits and positions."""
    return client_config(settings) | {
        "enable_auto_commit": False,
        "allow_auto_create_topics": False,
        "fetch_max_wait_ms": settings.kafka_fetch_max_wait_ms,
        "request_timeout_ms": max(_REQUEST_MS, settings.kafka_fetch_max_wait_ms + _ANSWER_MS),
        "session_timeout_ms": settings.kafka_session_timeout_ms,
        "heartbeat_interval_ms": heartbeat_ms(settings),
        "metrics_enabled": False,  # kafka-python's metrics: nobody reads them, and each request would pay for them
    }


def producer_config(settings: Settings) -> dict[str, Any]:
    """Durable and batched: acks=all, idempotent, and patient while the brokers are away.

    The client retries a record for a day, so that the idempotent producer prevents duplicates, instead of a second send().
    """
    return client_config(settings) | {
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": "lz4",
        "linger_ms": settings.kafka_linger_ms,
        "batch_size": _BATCH_BYTES,
        "max_request_size": _REQUEST_BYTES,
        "delivery_timeout_ms": 24 * 60 * 60 * 1000,
        "allow_auto_create_topics": False,
        "metrics_enabled": False,  # as for consumers
    }
