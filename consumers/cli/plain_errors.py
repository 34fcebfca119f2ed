"""Plain error messages for options. typer 0.26 and newer prints pydantic's ("Value error, …", "unable to parse …").

An option that is given twice, or together with its opposite, is refused. Otherwise all values but the last would be ignored silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from schemas.validation_sentences import plain_sentence

_PREFIX: Final = "Value error, "
_AND: Final = " and "


class PlainErrorsGroup(TyperGroup):
    """Commands that report invalid options, also of their subcommands, in plain words."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments before the command's name, and check all arguments.

        Raises:
            typer.BadParameter: an option that takes one value is given twice, or a flag and its opposite are given.
        """
        if not ctx.resilient_parsing and (name := given_twice(self, args)):
            message = "Use only one of them." if _AND in name else "It was given twice, but takes only one value."
            raise typer.BadParameter(message, param_hint=name)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = in_plain_words(error)
            raise


def given_twice(command: Any, arguments: Sequence[str]) -> str | None:
    """The first option that takes one value and has two, or the first flag and its opposite. ``command`` is typer's command, with its
    subcommands.
    """
    seen: set[str] = set()
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            break
        below = getattr(command, "commands", {}).get(argument)
        if below is not None:
            command, seen = below, set()
            continue
        name, sign, _ = argument.partition("=")
        option = next((one for one in command.params if name.startswith("--") and name in (*one.opts, *one.secondary_opts)), None)
        if option is None:
            continue
        if option.is_flag:
            opposites = option.opts if name in option.secondary_opts else option.secondary_opts
            if opposite := seen.intersection(opposites):
                return f"{opposite.pop()}{_AND}{name}"
            seen.add(name)
            continue
        if name in seen and not option.multiple:
            return name
        seen.add(name)
        if not sign:
            next(rest, None)  # its value, whatever that looks like
    return None


def in_plain_words(error: typer.BadParameter) -> str:
    """The message about an option. typer escapes what comes from the command line; our sentences contain none of it."""
    findings = error.__cause__.errors() if isinstance(error.__cause__, ValidationError) else []
    sentence = plain_sentence(findings[0]) if findings else None
    return sentence or error.message.removeprefix(_PREFIX)
