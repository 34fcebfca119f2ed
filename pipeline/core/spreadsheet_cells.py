"""Values for tables that people open in a spreadsheet. Pure."""

from __future__ import annotations

from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet may interpret as the beginning of a formula, including full-width forms."""


def cell(value: object) -> object:
    """A value as a cell: lists as words. Text that a spreadsheet would interpret as a formula gets a leading apostrophe."""
    if isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
