"""Filters librdkafka's messages for our log: those about connections at level ``debug``, each other kind once a minute.

librdkafka delivers them while a client is polled, on the polling thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError

from pipeline.broker.kafka.library_log import LibraryLog
from pipeline.broker.librdkafka.errors import BROKERS_AWAY

_CONNECTIONS: Final = frozenset({"FAIL", "ERROR", "REQTMOUT", "CONNECT", "GETPID", "TERMINATE", "OFFSET"})
"""Kinds of messages about connections, or about conditions that are reported elsewhere (positions that are not in the log)."""


class LibrdkafkaLog(LibraryLog):
    """Filters librdkafka's messages. They consist of a kind, a client and a text."""

    library = "librdkafka"

    def _kind(self, record: logging.LogRecord) -> tuple[str, str]:
        kind = record.args[0] if isinstance(record.args, tuple) and record.args else record.msg
        return (record.name, str(kind))

    def _is_of_connections(self, record: logging.LogRecord, message: str) -> bool:
        return (
            record.levelno <= logging.DEBUG
            or self._kind(record)[1] in _CONNECTIONS
            or super()._is_of_connections(record, message)
        )


def log_error(error: KafkaError) -> None:
    """Called by librdkafka with an error that concerns no record: unavailable brokers, a refused login."""
    level = logging.DEBUG if error.code() in BROKERS_AWAY else logging.WARNING
    library.log(level, "%s [%s] %s", error.name(), "error", error.str())


def with_error_log(*more: Callable[[KafkaError], None]) -> Callable[[KafkaError], None]:
    """An ``error_cb`` that also calls others."""

    def on_error(error: KafkaError) -> None:
        log_error(error)
        for each in more:
            each(error)

    return on_error


library: Final = logging.getLogger("librdkafka")
library.propagate = False
library.setLevel(logging.DEBUG)
library.addHandler(LibrdkafkaLog())
