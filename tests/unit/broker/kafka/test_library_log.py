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


def said(library: LibraryLog, *messages: tuple[str, str]) -> list[Any]:
    """What stands in the log after these, by logger and message."""
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
def test_that_a_broker_is_away_is_said_by_the_probe(library: LibraryLog, name: str, message: str) -> None:
    assert said(library, (name, message)) == [("debug", message, None)]


def test_the_rest_is_said_once_a_minute(library: LibraryLog, now: list[float]) -> None:
    one, other = ("kafka.consumer.fetcher", "Fetch position is out of range"), ("kafka.coordinator", "The group is odd")
    assert said(library, one, one, other, one) == [("warning", one[1], 1), ("warning", other[1], 1)]
    now[0] += 61
    assert said(library, one) == [("warning", one[1], 3)]


def test_what_it_says_of_one_topic_after_the_other_is_said_once(library: LibraryLog) -> None:
    """The sticky assignor does, of all topics of a group, when it has to divide them before it knows their partitions."""
    of_topics = [("kafka.coordinator.assignors", f"No partition metadata for topic {topic}") for topic in ("oms.orders", "a.b-c")]
    of_batches = [
        (
            "kafka.producer.sender",
            f"<Sender client_id=p-1 transactional_id=None>: Error on TopicPartition(topic='{topic}', partition=2)",
        )
        for topic in ("oms.orders", "oms.shipments")
    ]
    assert said(library, *of_topics, *of_batches) == [("warning", of_topics[0][1], 1), ("warning", of_batches[0][1], 1)]


def test_an_exception_is_a_word_and_no_traceback(library: LibraryLog) -> None:
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


def test_what_it_says_of_connections_can_be_heard() -> None:
    with listening() as heard:
        logging.getLogger("kafka.net.manager").warning("Bootstrap connection to %s failed: %s", "bootstrap-0", "no")
        logging.getLogger("kafka.coordinator").warning("something else")
    logging.getLogger("kafka.net.manager").warning("afterwards")
    assert heard == ["Bootstrap connection to bootstrap-0 failed: no"]
