"""What librdkafka says, in our log: what concerns connections at the level ``debug``, each other kind of message once a minute.

It is handed over while a client is polled, on the thread that polls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError

from pipeline.broker.kafka.library_log import LibraryLog
from pipeline.broker.librdkafka.errors import BROKERS_AWAY

_CONNECTIONS: Final = frozenset({"FAIL", "ERROR", "REQTMOUT", "CONNECT", "GETPID", "TERMINATE", "OFFSET"})
"""Kinds of lines that speak of connections, or of what is told otherwise (positions that are not in the log)."""


class LibrdkafkaLog(LibraryLog):
    """Says less of what librdkafka says. Its lines come as a kind, a client and a text."""

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


def error_heard(error: KafkaError) -> None:
    """Called by librdkafka with an error that concerns no record: brokers that are away, a login that is refused."""
    level = logging.DEBUG if error.code() in BROKERS_AWAY else logging.WARNING
    library.log(level, "%s [%s] %s", error.name(), "error", error.str())


def heard_by(*more: Callable[[KafkaError], None]) -> Callable[[KafkaError], None]:
    """An ``error_cb`` that tells others too."""

    def heard(error: KafkaError) -> None:
        error_heard(error)
        for each in more:
            each(error)

    return heard


library: Final = logging.getLogger("librdkafka")
library.propagate = False
library.setLevel(logging.DEBUG)
library.addHandler(LibrdkafkaLog())
