"""The selector that kafka-python's clients wait with: it asks the system for little.

Each system call of a client's thread lets go of the interpreter, and gets it back from a busy event loop only after milliseconds. kafka-python
3.0.12 makes thirteen for each answer of a broker (three of them wait) that come to four with this selector and `pipeline.broker.transport`.
"""

from __future__ import annotations

import selectors
from collections.abc import Iterable
from typing import Any

_WAITS_LEFT_OUT = 3
"""Of those that take no time, in a row: what has arrived is to wait for a few steps of the client at most."""


class SparingSelector(selectors.DefaultSelector):
    """The standard one, with three differences.

    - What is taken out and put in again before the next wait stays in (kafka-python does so with every answer).
    - A wait of no time (the client has more to do) is left out, up to three times in a row.
    - A socket that it does not know is not described: kafka-python asks for one before every wait, and takes the KeyError. The
      standard selector writes the socket's addresses into its text, twice, which takes system calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self._leaving: dict[int, selectors.SelectorKey] = {}
        """Registered by the system, and not in our users' eyes."""
        self._left_out = 0

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """What was registered for a file object, or for its descriptor.

        Raises:
            KeyError: nothing was.
        """
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        # One that was closed is still found by itself, as the standard selector does.
        key = super().get_key(fileobj if descriptor < 0 else descriptor)
        if key.fd in self._leaving:
            raise KeyError(f"{key.fd} is not registered")
        return key

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Wait for events of a file object from now on."""
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        leaving = self._leaving.pop(descriptor, None)
        if leaving is not None:
            if leaving.fileobj is fileobj and leaving.events == events:
                return super().modify(fileobj, events, data)
            super().unregister(leaving.fileobj)  # also one that was closed, whose descriptor is another's now
        return super().register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Wait for nothing of a file object any more.

        Raises:
            KeyError: it was not registered.
        """
        key = self.get_key(fileobj)
        self._leaving[key.fd] = key
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What has happened; waits for ``timeout`` seconds at most."""
        if timeout is not None and timeout <= 0 and self._left_out < _WAITS_LEFT_OUT:
            self._left_out += 1
            return []
        self._left_out = 0
        self._forget(self._leaving.values())
        self._leaving.clear()
        return super().select(timeout)

    def _forget(self, keys: Iterable[selectors.SelectorKey]) -> None:
        for key in keys:
            super().unregister(key.fileobj)
