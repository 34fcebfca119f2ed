"""Keeps idle connections for the next request to the same address, for a limited time and in a limited number."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from time import monotonic
from typing import Generic, Protocol, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from pipeline.sender.deadlines import Deadlines


class _Closable(Protocol):
    def close(self) -> None:
        """Drop the connection."""


ConnectionT = TypeVar("ConnectionT", bound=_Closable)


IdleLine: TypeAlias = deque[tuple[ConnectionT, float]]
"""The idle connections to one address, oldest first, each with the monotonic time at which it became idle."""


class IdleConnections(Generic[ConnectionT]):
    """Closes a connection that was idle for ``seconds``, and the oldest if there are more than ``most``: each takes a descriptor."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._lines: WeakValueDictionary[Hashable, IdleLine[ConnectionT]] = WeakValueDictionary()
        self._idle: dict[ConnectionT, IdleLine[ConnectionT]] = {}
        """Oldest first."""
        self._deadlines: Deadlines[ConnectionT] = Deadlines(seconds, self._close)

    def __len__(self) -> int:
        return len(self._idle)

    def line(self, key: Hashable) -> IdleLine[ConnectionT]:
        """The idle connections that are interchangeable, because their ``key`` is the same. Keep it for `take` and `add`."""
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = deque()
        return line

    def take(self, line: IdleLine[ConnectionT]) -> ConnectionT | None:
        """The connection that has been idle longest, if there is one."""
        while line:
            connection, since = line.popleft()
            del self._idle[connection]
            self._deadlines.remove(connection)
            if monotonic() - since <= self._seconds:
                return connection
            connection.close()  # the process was stopped, so the timer is late
        return None

    def add(self, line: IdleLine[ConnectionT], connection: ConnectionT) -> None:
        """A connection has become idle."""
        line.append((connection, monotonic()))
        self._idle[connection] = line
        self._deadlines.add(connection)
        if len(self._idle) > self._most:
            self._close(next(iter(self._idle)))

    def remove(self, connection: ConnectionT) -> None:
        """An idle connection has ended."""
        line = self._idle.pop(connection, None)
        if line is not None:
            self._deadlines.remove(connection)
            line.remove(next(entry for entry in line if entry[0] is connection))

    def close(self) -> None:
        """Close all idle connections."""
        for connection in list(self._idle):
            self._close(connection)

    def _close(self, connection: ConnectionT) -> None:
        self.remove(connection)
        connection.close()
