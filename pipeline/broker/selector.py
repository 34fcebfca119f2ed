"""The selector that kafka-python's clients wait with."""

from __future__ import annotations

import selectors
from typing import Any


class PlainSelector(selectors.DefaultSelector):
    """The standard one, without describing a socket that it does not know.

    kafka-python 3.0.12 asks for one before every wait, and takes the KeyError. The standard selector writes the socket's addresses into
    its text, twice, which takes system calls and five times as long as the rest.
    """

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """What was registered for a file object, or for its descriptor.

        Raises:
            KeyError: nothing was.
        """
        descriptor = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        # One that was closed is still found by itself, as the standard selector does.
        return super().get_key(fileobj if descriptor < 0 else descriptor)
