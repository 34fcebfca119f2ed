"""The arguments of every kafka-python client, from the settings."""

from __future__ import annotations

from typing import Any

from kafka.errors import KafkaError as KafkaError  # noqa: PLC0414 - exported: the command line must not import kafka

from pipeline.broker.kafka.oauth import token_provider
from pipeline.broker.kafka.session import SESSION_MS
from pipeline.ops.settings import Settings

REQUEST_BYTES = 32 * 1024 * 1024
"""Room for the largest record with its metadata in one request."""
BATCH_BYTES = 768 * 1024
"""As much as a fast fan-out writes within `kafka_linger_ms`, and less than brokers accept by default (1 MiB). For each batch,
kafka-python's thread takes the GIL from the event loop many times: with a third of this size and half the linger time, a delivery
took a tenth more CPU time (tests/bench/path.py).
"""
_REQUEST_MS = 10_000
"""How long an answer may take. If a broker hangs (a frozen machine), its connections stay open, and kafka-python waits for it
until this time is over, although the other brokers have replaced it long before.
"""
_ANSWER_MS = 5_000
"""How much longer the answer to a fetch may take than the broker may hold it."""


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
    """An idle member learns from its heartbeats that another one is gone, so this adds to the session of the dead member."""
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
        "metrics_enabled": False,  # nobody reads kafka-python's own metrics, and they cost time in each request
    }


def producer_config(settings: Settings) -> dict[str, Any]:
    """Durable and batched: acks=all, idempotent, and patient while the brokers are unavailable.

    The client itself retries a record for a day: the idempotent producer prevents duplicates then, but not after a second send().
    """
    return client_config(settings) | {
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": "lz4",
        "linger_ms": settings.kafka_linger_ms,
        "batch_size": BATCH_BYTES,
        "max_request_size": REQUEST_BYTES,
        "delivery_timeout_ms": 24 * 60 * 60 * 1000,
        "allow_auto_create_topics": False,
        "metrics_enabled": False,  # as for consumers
    }
