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


IdleQueue: TypeAlias = deque[tuple[ConnectionT, float]]
"""The idle connections to one address, oldest first, each with the monotonic time at which it became idle."""


class IdleConnections(Generic[ConnectionT]):
    """Closes a connection that was idle for ``seconds``, and the oldest if there are more than ``most``: each takes a descriptor."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._queues: WeakValueDictionary[Hashable, IdleQueue[ConnectionT]] = WeakValueDictionary()
        self._idle: dict[ConnectionT, IdleQueue[ConnectionT]] = {}
        """Oldest first."""
        self._deadlines: Deadlines[ConnectionT] = Deadlines(seconds, self._close)

    def __len__(self) -> int:
        return len(self._idle)

    def queue(self, key: Hashable) -> IdleQueue[ConnectionT]:
        """The idle connections that are interchangeable, because their ``key`` is the same. Keep it for `take` and `add`."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque()
        return queue

    def take(self, queue: IdleQueue[ConnectionT]) -> ConnectionT | None:
        """The connection that has been idle for the shortest time, if there is one.

        Its server is least likely to be about to close it. Those that are not needed after a burst stay idle, and are closed. In turns, the
        traffic would keep all of them, each idle for just less than the time after which its server closes it.
        """
        while queue:
            connection, since = queue.pop()
            del self._idle[connection]
            self._deadlines.remove(connection)
            if monotonic() - since <= self._seconds:
                return connection
            connection.close()  # the process was stopped, so the timer is late
        return None

    def add(self, queue: IdleQueue[ConnectionT], connection: ConnectionT) -> None:
        """A connection has become idle."""
        queue.append((connection, monotonic()))
        self._idle[connection] = queue
        self._deadlines.add(connection)
        if len(self._idle) > self._most:
            self._close(next(iter(self._idle)))

    def remove(self, connection: ConnectionT) -> None:
        """An idle connection has ended."""
        queue = self._idle.pop(connection, None)
        if queue is not None:
            self._deadlines.remove(connection)
            queue.remove(next(entry for entry in queue if entry[0] is connection))

    def close(self) -> None:
        """Close all idle connections."""
        for connection in list(self._idle):
            self._close(connection)

    def _close(self, connection: ConnectionT) -> None:
        self.remove(connection)
        connection.close()
