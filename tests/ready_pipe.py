"""Waiting for output of a child process."""

from __future__ import annotations

import selectors
from typing import IO, Any


def is_readable(pipe: IO[Any] | int, seconds: float) -> bool:
    """Return whether something can be read (or the pipe has ended) in time; select() would refuse a descriptor above 1023."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return bool(selector.select(seconds))
