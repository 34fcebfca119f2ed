"""Bounds the connections that are kept open without a request."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class _Closable(Protocol):
    def close(self) -> None:
        """Drop the connection."""


ConnectionT = TypeVar("ConnectionT", bound=_Closable)


class IdlePool(Generic[ConnectionT]):
    """The connections that are kept open without a request, the oldest first; of those beyond ``most`` the oldest is closed.

    Each takes a descriptor, and every endpoint may have some.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: dict[ConnectionT, None] = {}

    def __len__(self) -> int:
        return len(self._idle)

    def add(self, connection: ConnectionT) -> None:
        """A connection has nothing to do."""
        self._idle[connection] = None
        if len(self._idle) > self._most:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.close()

    def remove(self, connection: ConnectionT) -> None:
        """It has something to do again, or is gone."""
        self._idle.pop(connection, None)

    def close(self) -> None:
        """Close all of them."""
        idle, self._idle = self._idle, {}
        for connection in idle:
            connection.close()
