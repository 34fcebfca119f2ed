from __future__ import annotations

import logging
from typing import Any

import pytest
from structlog.testing import capture_logs

from pipeline.broker.kafka.library_log import LibraryLog, listening


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def library(now: list[float]) -> LibraryLog:
    return LibraryLog(clock=lambda: now[0])


def logged(library: LibraryLog, *messages: tuple[str, str]) -> list[Any]:
    """Return the log lines of these messages, given by logger."""
    with capture_logs() as logs:
        for name, message in messages:
            library.handle(logging.LogRecord(name, logging.WARNING, "", 0, message, (), None))
    return [(entry["log_level"], entry["said"], entry.get("times")) for entry in logs]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kafka.net.manager", "Connection failed: KafkaConnectionError: 111 ECONNREFUSED"),
        ("kafka.cluster", "No node available for metadata refresh - backoff/retry"),
        ("kafka.consumer.fetcher", "Fetch to node 1 failed: KafkaConnectionError: 111 ECONNREFUSED"),
        ("kafka.coordinator", "Error sending FindCoordinatorRequest to node 1 [KafkaConnectionError: 111 ECONNREFUSED]"),
    ],
)
def test_connection_failures_are_logged_at_debug_because_the_probe_reports_them(
    library: LibraryLog, name: str, message: str
) -> None:
    assert logged(library, (name, message)) == [("debug", message, None)]


def test_other_messages_are_logged_once_a_minute(library: LibraryLog, now: list[float]) -> None:
    one, other = ("kafka.consumer.fetcher", "Fetch position is out of range"), ("kafka.coordinator", "The group is odd")
    assert logged(library, one, one, other, one) == [("warning", one[1], 1), ("warning", other[1], 1)]
    now[0] += 61
    assert logged(library, one) == [("warning", one[1], 3)]


def test_messages_that_differ_only_in_the_topic_are_logged_once(library: LibraryLog) -> None:
    """The sticky assignor logs one for each topic of a group if it must divide them before it knows their partitions."""
    of_topics = [("kafka.coordinator.assignors", f"No partition metadata for topic {topic}") for topic in ("oms.orders", "a.b-c")]
    of_batches = [
        (
            "kafka.producer.sender",
            f"<Sender client_id=p-1 transactional_id=None>: Error on TopicPartition(topic='{topic}', partition=2)",
        )
        for topic in ("oms.orders", "oms.shipments")
    ]
    assert logged(library, *of_topics, *of_batches) == [("warning", of_topics[0][1], 1), ("warning", of_batches[0][1], 1)]


def test_an_exception_is_logged_in_words_and_without_a_traceback(library: LibraryLog) -> None:
    found = (ValueError, ValueError("odd"), None)
    with capture_logs() as logs:
        library.handle(logging.LogRecord("kafka.producer", logging.ERROR, "", 0, "It failed", (), found))
    assert logs == [
        {
            "event": "kafka-python",
            "log_level": "error",
            "source": "kafka.producer",
            "said": "It failed (ValueError('odd'))",
            "times": 1,
        }
    ]


def test_messages_about_connections_can_be_listened_to() -> None:
    with listening() as heard:
        logging.getLogger("kafka.net.manager").warning("Bootstrap connection to %s failed: %s", "bootstrap-0", "no")
        logging.getLogger("kafka.coordinator").warning("something else")
    logging.getLogger("kafka.net.manager").warning("afterwards")
    assert heard == ["Bootstrap connection to bootstrap-0 failed: no"]
