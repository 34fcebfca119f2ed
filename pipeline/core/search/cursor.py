"""Cursors: where a page ended, as a text that clients send back unchanged (``after``)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

_VERSION: Final = "1"
_FORM: Final = re.compile(r"1([ad])(-?[0-9]{1,16})\.(-?[0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page: its time in milliseconds since 1970 and its id, and whether the order is newest first."""

    created_at_ms: int
    id: int
    descending: bool = True

    def encode(self) -> str:
        """The text that a client sends back. Its content is private, and may change with its version."""
        text = f"{_VERSION}{'d' if self.descending else 'a'}{self.created_at_ms}.{self.id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


_END_OF_TIME_MS: Final = 9_000_000_000_000


def beginning(*, descending: bool = True) -> Cursor:
    """The cursor before every row: all results follow it, and nothing is counted."""
    if descending:
        return Cursor(_END_OF_TIME_MS, 2**63 - 1)
    return Cursor(-_END_OF_TIME_MS, -(2**63), descending=False)


def decode_cursor(text: str) -> Cursor | None:
    """What :meth:`Cursor.encode` wrote; None if it is something else."""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None
    match = _FORM.fullmatch(decoded)
    if match is None:
        return None
    cursor = Cursor(int(match[2]), int(match[3]), match[1] == "d")
    return cursor if -(2**63) <= cursor.id < 2**63 else None
