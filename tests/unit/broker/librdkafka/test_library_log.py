"""librdkafka's messages: those about connections at level debug, the rest once a minute."""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from pipeline.broker.librdkafka.library_log import LibrdkafkaLog, log_error


def line(kind: str, text: str) -> logging.LogRecord:
    return logging.LogRecord("librdkafka", logging.WARNING, "", 0, "%s [%s] %s", (kind, "rdkafka#consumer-1", text), None)


def test_connection_failures_are_logged_at_debug_because_the_probe_reports_them() -> None:
    with capture_logs() as logs:
        LibrdkafkaLog().handle(line("FAIL", "Connect to ipv4#127.0.0.1:1 failed: Connection refused"))
    assert [entry["log_level"] for entry in logs] == ["debug"]


def test_each_kind_of_message_is_logged_once_a_minute() -> None:
    now = [1000.0]
    library = LibrdkafkaLog(clock=lambda: now[0])
    with capture_logs() as logs:
        for text in ("one", "two", "three"):
            library.handle(line("SESSTMOUT", text))
        library.handle(line("FENCED", "another"))
        now[0] += 61
        library.handle(line("SESSTMOUT", "four"))
    assert [(entry["event"], entry["times"]) for entry in logs] == [("librdkafka", 1), ("librdkafka", 1), ("librdkafka", 3)]


def test_errors_of_a_client_are_received() -> None:
    with capture_logs() as logs:
        log_error(KafkaError(KafkaError._ALL_BROKERS_DOWN, "2/2 brokers are down"))
        log_error(KafkaError(KafkaError._AUTHENTICATION, "refused"))
    assert [entry["log_level"] for entry in logs] == ["debug", "warning"]
