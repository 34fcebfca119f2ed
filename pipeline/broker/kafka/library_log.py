"""What kafka-python logs. It says the same many times a second while brokers are away, at levels that call for somebody.

What it says of connections stands in our log at the level ``debug`` only: the probe tells of brokers that are away, in one line. Of the
rest each kind of message is said once a minute, with how often it came.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pipeline.ops.logs import logger
from pipeline.ops.once_a_minute import OnceAMinute

log = logger(__name__)

_CONNECTIONS: Final = ("kafka.net", "kafka.cluster")
"""Loggers that speak of nothing else; they see brokers go before anybody else does."""
_AWAY: Final = (
    *("KafkaConnectionError", "NodeNotReadyError", "KafkaTimeoutError", "RequestTimedOutError", "ECONNREFUSED", "Cancelled"),
    *(
        "NotLeaderForPartitionError",
        "CoordinatorNotAvailableError",
        "CoordinatorLoadInProgressError",
        "Marking the coordinator dead",
        "Heartbeat failed",
    ),
)
"""In messages of other loggers: it is because a broker is away."""
_NAMES: Final = re.compile(r"\S*[\d.'=]\S*")
"""Of topics, partitions and clients, and numbers: kafka-python says the same of each topic in turn."""


class LibraryLog(logging.Handler):
    """Says less of what a library says."""

    library = "kafka-python"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._counts = OnceAMinute(clock)

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, or not."""
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            message += f" ({record.exc_info[1]!r})"
        if self._is_of_connections(record, message):
            log.debug(self.library, source=record.name, said=message)
            return
        times = self._counts.times(self._kind(record))
        if times:
            log.log(record.levelno, self.library, source=record.name, said=message, times=times)

    def _is_of_connections(self, record: logging.LogRecord, message: str) -> bool:
        return record.name.startswith(_CONNECTIONS) or any(word in message for word in _AWAY)

    def _kind(self, record: logging.LogRecord) -> tuple[str, str]:
        """Messages of one kind are counted together."""
        return (record.name, _NAMES.sub("*", str(record.msg)))


@contextmanager
def listening() -> Iterator[list[str]]:
    """What kafka-python says of its connections meanwhile."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    _net.addHandler(handler)
    try:
        yield said
    finally:
        _net.removeHandler(handler)


_library = logging.getLogger("kafka")
_library.propagate = False
_library.addHandler(LibraryLog())
_net = logging.getLogger("kafka.net")
_net.setLevel(logging.WARNING)  # heard, whatever our own level is
