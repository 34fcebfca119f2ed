"""The ways to Kafka that share one contract: in memory, kafka-python, librdkafka. The last two use the session's broker.

Tests with group members take seconds there: on the embedded broker, a join takes half a session timeout.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.ops.settings import Settings
from tests.contract.broker.backends import Backend, MemoryBackend, RealBackend

CLIENTS = ("kafka-python", "librdkafka")


@pytest.fixture(params=("memory", *CLIENTS))
def backend(request: pytest.FixtureRequest, topic_prefix: str) -> Iterator[Backend]:
    """Return a way to Kafka, with topics and groups of the test's own."""
    chosen = MemoryBackend(topic_prefix) if request.param == "memory" else real(request, request.param, topic_prefix)
    yield chosen
    chosen.close()


@pytest.fixture(params=CLIENTS)
def kafka(request: pytest.FixtureRequest, topic_prefix: str) -> Iterator[RealBackend]:
    """Return the same without the one in memory, for cases that need a network."""
    chosen = real(request, request.param, topic_prefix)
    yield chosen
    chosen.close()


def real(request: pytest.FixtureRequest, client: str, prefix: str) -> RealBackend:
    """Return a client on the session's broker."""
    is_embedded = request.config.getoption("--kafka") == "embedded"
    settings = Settings(
        kafka_bootstrap_servers=request.getfixturevalue("bootstrap_servers"),
        kafka_client=client,
        kafka_replication_factor=1,
        kafka_session_timeout_ms=4_000 if is_embedded else 6_000,
        kafka_fetch_max_wait_ms=100,  # the embedded broker is polled: at 30 ms, this takes half a core
        kafka_metadata_max_age_ms=1000,
        kafka_linger_ms=1,
    )
    return RealBackend(settings, prefix, is_embedded=is_embedded)
