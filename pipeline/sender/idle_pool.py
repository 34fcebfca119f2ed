"""Limits the idle connections that are kept open."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class _Closable(Protocol):
    def close(self) -> None:
        """Drop the connection."""


ConnectionT = TypeVar("ConnectionT", bound=_Closable)


class IdlePool(Generic[ConnectionT]):
    """The idle connections, oldest first. Beyond ``most``, the oldest is closed: each takes a descriptor."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: dict[ConnectionT, None] = {}

    def __len__(self) -> int:
        return len(self._idle)

    def add(self, connection: ConnectionT) -> None:
        """A connection has become idle."""
        self._idle[connection] = None
        if len(self._idle) > self._most:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.close()

    def remove(self, connection: ConnectionT) -> None:
        """A connection is in use again, or closed."""
        self._idle.pop(connection, None)

    def close(self) -> None:
        idle, self._idle = self._idle, {}
        for connection in idle:
            connection.close()
