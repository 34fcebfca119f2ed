"""What a command reads from its standard input, which may be closed, or hold something else than text."""

from __future__ import annotations

import sys

import typer

_CLOSED = "Standard input is closed: there is nothing to read."
_NO_TEXT = "What stands on standard input is not text (UTF-8)."


def read_bytes() -> bytes:
    """All of it.

    Raises:
        typer.BadParameter: it is closed.
    """
    if sys.stdin is None:  # as Python has it
        raise typer.BadParameter(_CLOSED)
    return sys.stdin.buffer.read()


def read_text() -> str:
    """All of it.

    Raises:
        typer.BadParameter: it is closed, or not text.
    """
    try:
        return read_bytes().decode()
    except UnicodeDecodeError:
        raise typer.BadParameter(_NO_TEXT) from None


def is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()
