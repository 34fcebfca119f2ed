"""librdkafka's configuration, from the settings: the same guarantees as kafka-python's (`pipeline.broker.kafka.config`)."""

from __future__ import annotations

import time
from typing import Any, Final

from kafka.net.sasl.oauth import AbstractTokenProvider

from pipeline.broker.kafka.config import BATCH_BYTES, REQUEST_BYTES, heartbeat_ms
from pipeline.broker.kafka.oauth import TokenError, token_provider
from pipeline.broker.librdkafka.library_log import library, log_error
from pipeline.ops.settings import Settings

QUEUE_BYTES: Final = 4 * 1024 * 1024
"""How much a reader fetches ahead. One fetch from each broker may be added."""
_MAX_QUEUED_KIB: Final = 256 * 1024
_MAX_QUEUED: Final = 1_000_000
"""For unacknowledged records. The product has a much lower limit (`pipeline.broker.producer`)."""
_NO_TOKEN_SECONDS: Final = 10.0
_TOKEN_SECONDS: Final = 60.0
"""How often librdkafka asks for a token. The provider keeps one until most of its lifetime is over, so asking is cheap."""


class TokenSource:
    """Provides tokens for one client. Repeats the last one while there is no new one: an exception would harm confluent-kafka."""

    def __init__(self, provider: AbstractTokenProvider) -> None:
        self._provider = provider
        self._last: str | None = None

    def __call__(self, _: str) -> tuple[str, float]:
        """The token, and when it expires for librdkafka (seconds since 1970), which asks again after four fifths of the time.

        Raises:
            TokenError: there is no token yet.
        """
        again_after = _TOKEN_SECONDS
        try:
            self._last = self._provider.token()
        except TokenError as error:
            if self._last is None:
                raise
            library.warning("%s [%s] %s", "TOKEN", "oauth", error)
            again_after = _NO_TOKEN_SECONDS
        return self._last, time.time() + again_after


def client_config(settings: Settings) -> dict[str, Any]:
    """Addresses, TLS, SASL, and where librdkafka's messages go."""
    config: dict[str, Any] = {
        "bootstrap.servers": ",".join(server.strip() for server in settings.kafka_bootstrap_servers.split(",")),
        "client.id": "oms-webhooks",
        "security.protocol": settings.kafka_security_protocol,
        "reconnect.backoff.max.ms": 2_000,
        "topic.metadata.refresh.interval.ms": settings.kafka_metadata_max_age_ms,
        "metadata.max.age.ms": 3 * settings.kafka_metadata_max_age_ms,
        "log.connection.close": False,  # brokers close idle connections
        "logger": library,
        "error_cb": log_error,
    }
    if settings.kafka_ssl_cafile:
        config["ssl.ca.location"] = str(settings.kafka_ssl_cafile)
    if settings.kafka_ssl_certfile:
        config["ssl.certificate.location"] = str(settings.kafka_ssl_certfile)
    if settings.kafka_ssl_keyfile:
        config["ssl.key.location"] = str(settings.kafka_ssl_keyfile)
    if settings.kafka_ssl_password:
        config["ssl.key.password"] = settings.kafka_ssl_password.get_secret_value()
    return config | _sasl(settings)


def _sasl(settings: Settings) -> dict[str, Any]:
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        return {"sasl.mechanism": "OAUTHBEARER", "oauth_cb": TokenSource(token_provider(settings))}
    if settings.kafka_sasl_mechanism and settings.kafka_sasl_password:
        return {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_sasl_username,
            "sasl.password": settings.kafka_sasl_password.get_secret_value(),
        }
    return {}


def _consumer_config(settings: Settings, group: str) -> dict[str, Any]:
    """The further arguments of every consumer: we manage commits and positions."""
    return client_config(settings) | {
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",  # pipeline/broker/start_offset.py and fetch_positions.py decide where to continue
        "allow.auto.create.topics": False,
    }


def member_config(settings: Settings, group: str, instance_id: str | None) -> dict[str, Any]:
    """For a member that fetches nothing."""
    session_ms = settings.kafka_session_timeout_ms
    config = _consumer_config(settings, group) | {
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": session_ms,
        "heartbeat.interval.ms": heartbeat_ms(settings),
        "max.poll.interval.ms": max(300_000, 3 * session_ms),
        "statistics.interval.ms": 250,  # the only public way to see that a join is in progress
    }
    return config if instance_id is None else config | {"group.instance.id": instance_id}


def reader_config(settings: Settings, *, partition_bytes: int, read_committed: bool) -> dict[str, Any]:
    """For a reader outside of any group. librdkafka requires a group name anyway; nobody ever joins that group."""
    return _consumer_config(settings, f"{settings.kafka_topic_prefix}oms-webhooks.readers") | {
        "enable.partition.eof": True,
        "isolation.level": "read_committed" if read_committed else "read_uncommitted",
        "fetch.wait.max.ms": settings.kafka_fetch_max_wait_ms,
        "socket.timeout.ms": max(60_000, settings.kafka_fetch_max_wait_ms + 1_000),
        "max.partition.fetch.bytes": partition_bytes,
        "fetch.max.bytes": QUEUE_BYTES,
        "queued.max.messages.kbytes": QUEUE_BYTES // 1024,
        "fetch.queue.backoff.ms": 10,  # a full queue is emptied within milliseconds; the default is a second
    }


def producer_config(settings: Settings) -> dict[str, Any]:
    """Durable and batched: acks=all, idempotent, and patient while the brokers are unavailable (as kafka-python's)."""
    return client_config(settings) | {
        "acks": "all",
        "enable.idempotence": True,
        "compression.type": "lz4",
        "linger.ms": settings.kafka_linger_ms,
        "batch.size": BATCH_BYTES,
        "message.max.bytes": REQUEST_BYTES,
        "delivery.timeout.ms": 24 * 60 * 60 * 1000,
        "queue.buffering.max.kbytes": _MAX_QUEUED_KIB,
        "queue.buffering.max.messages": _MAX_QUEUED,
        "partitioner": "murmur2_random",  # as for the Java client and kafka-python
    }
