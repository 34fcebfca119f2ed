"""Values for tables that people open in a spreadsheet. Pure."""

from __future__ import annotations

from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet may take for the beginning of a formula, full-width forms included."""


def cell(value: object) -> object:
    """A value as a cell: lists as words; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    if isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
