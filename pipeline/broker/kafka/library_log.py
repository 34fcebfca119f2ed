"""Filters kafka-python's log. While brokers are unavailable, it repeats the same messages many times a second, as warnings and
errors.

Its messages about connections are logged only at level ``debug``, because the readiness probe reports unavailable brokers in one
line. Other messages are logged once a minute for each kind, with a count.
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
"""Loggers that are only about connections; they notice unavailable brokers first."""
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
"""Texts in messages of other loggers that mean that a broker is unavailable."""
_NAMES: Final = re.compile(r"\S*[\d.'=]\S*")
"""Names of topics, partitions and clients, and numbers: kafka-python repeats a message for each topic."""


class LibraryLog(logging.Handler):
    """Filters the log of a library."""

    library = "kafka-python"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._counts = OnceAMinute(clock)

    def emit(self, record: logging.LogRecord) -> None:
        """Log a message, unless it is a repetition."""
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
    """Collects kafka-python's messages about connections."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    _net.addHandler(handler)
    try:
        yield messages
    finally:
        _net.removeHandler(handler)


_library = logging.getLogger("kafka")
_library.propagate = False
_library.addHandler(LibraryLog())
_net = logging.getLogger("kafka.net")
_net.setLevel(logging.WARNING)  # received, whatever our own level is
