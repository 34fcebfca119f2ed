"""Readable help: flags have no type, other options have the words of manuals (TEXT, NUMBER, PATH), not Python's, and ranges are in words."""

from __future__ import annotations

import re
from typing import Any, Final

_WORDS: Final = {
    "str": "TEXT",
    "int": "NUMBER",
    "float": "NUMBER",
    "int range": "NUMBER",
    "float range": "NUMBER",
    "path": "PATH",
}
_LIST: Final = re.compile(r"list\[(.*)\]")
_WIDEST: Final = 26
"""Widest list of choices in columns. A wider one moves into the text, where it can wrap between words."""


def with_plain_types(command: Any, parent: Any = None) -> Any:
    """Give a typer command and its subcommands plain words for types. Releases of typer that already have them are not changed."""
    context = command.context_class(command, info_name=command.name, parent=parent)
    for parameter in command.get_params(context):
        _make_plain(parameter, context)
    for below in getattr(command, "commands", {}).values():
        with_plain_types(below, context)
    return command


def _make_plain(parameter: Any, context: Any) -> None:
    describe = getattr(parameter, "display_type", None)
    if describe is None:
        return
    shown = str(describe(context)).removeprefix("<").removesuffix(">")
    in_list = _LIST.fullmatch(shown)
    kind = in_list[1] if in_list else shown
    word = _word(parameter, kind)
    if parameter.param_type_name == "argument":
        # The name of an argument already says what it is.
        parameter.display_type_rich = lambda ctx: None  # noqa: ARG005 - as typer calls it
    elif parameter.metavar is None:
        parameter.metavar = word
    _move_range(parameter)


def _move_range(parameter: Any) -> None:
    """Move the range of a number into the text. Beside the option, it takes so much room that words of the text are cut off."""
    lowest, highest = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if lowest is None and highest is None:
        return
    words = f"{lowest:g} or more." if highest is None else f"From {lowest or 0:g} to {highest:.12g}."
    parameter.help = f"{(parameter.help or '').rstrip()} {words}".lstrip()
    parameter.min = parameter.max = None  # typer would print the range again


def _word(parameter: Any, kind: str) -> str:
    if kind == "bool":
        return ""
    if "|" not in kind:
        return _WORDS.get(kind, kind.upper())
    if len(kind) <= _WIDEST:
        return kind
    parameter.help = f"{(parameter.help or '').rstrip()} One of {', '.join(kind.split('|'))}.".lstrip()
    return str(parameter.name).upper()
