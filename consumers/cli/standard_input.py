"""Read standard input, which may be closed, or may not be text."""

from __future__ import annotations

import sys

import typer

_CLOSED = "Standard input is closed. There is nothing to read."
_NO_TEXT = "Standard input is not valid UTF-8 text."


def read_bytes() -> bytes:
    """All of it.

    Raises:
        typer.BadParameter: it is closed.
    """
    if sys.stdin is None:  # if it was closed
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
    """Whether standard input is a terminal, so that a user can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()
