"""Ask before a command does what cannot be undone."""

from __future__ import annotations

from typing import Annotated

import typer

from consumers.cli.standard_input import is_terminal

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


class NoAnswerError(Exception):
    """A command had to ask, and standard input had no answer. Nothing was changed. ``str(error)`` says what to do."""


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether the user agrees. ``yes``: the command was told not to ask.

    Raises:
        NoAnswerError: there is nobody to ask, as in a script.
    """
    if yes:
        return True
    try:
        return typer.confirm(question)
    except typer.Abort:
        if is_terminal():  # Ctrl-C, or the end of input
            raise
        message = "This command asks for confirmation and got no answer, so nothing was changed. To skip the question, add --yes."
        raise NoAnswerError(message) from None
