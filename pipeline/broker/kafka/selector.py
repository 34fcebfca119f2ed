"""The selector that kafka-python's clients wait with: it asks the system for little.

Each system call of a client's thread lets go of the interpreter, and gets it back from a busy event loop only after milliseconds. kafka-python
3.0.12 makes thirteen for each answer of a broker; with this selector and `pipeline.broker.kafka.transport` it makes six.
"""

from __future__ import annotations

import selectors
from typing import Any

_WAITS_LEFT_OUT = 3
"""Of those that take no time, in a row: what has arrived is to wait for a few steps of the client at most."""


class SparingSelector(selectors.DefaultSelector):
    """The standard one, with two differences.

    - A wait of no time (the client has more to do) is left out, up to three times in a row.
    - A socket that it does not know is not described: kafka-python asks for one before every wait, and takes the KeyError. The
      standard selector writes the socket's addresses into its text, twice, which takes system calls.

    What is registered is the standard one's alone: kafka-python closes a client's sockets from another thread, in the middle of a wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self._left_out = 0

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """What was registered for a file object, or for its descriptor.

        Raises:
            KeyError: nothing was.
        """
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        # One that was closed is still found by itself, as the standard selector does.
        return super().get_key(fileobj if descriptor < 0 else descriptor)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What has happened; waits for ``timeout`` seconds at most."""
        if timeout is not None and timeout <= 0 and self._left_out < _WAITS_LEFT_OUT:
            self._left_out += 1
            return []
        self._left_out = 0
        return super().select(timeout)
