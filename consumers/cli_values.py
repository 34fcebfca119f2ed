"""The values of options, checked before anything is asked for: an option that would have no effect must not be one without a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

import typer

from pipeline.core.search.notes import NotUsableError
from pipeline.core.search.times import read_time
from pipeline.ops.clock import utc_now

TextsT = TypeVar("TextsT", bound=str | Sequence[str] | None)

_EMPTY: Final = "it has no value (is a variable of the shell empty?). Give it one, or leave the option out."
TIMES: Final = "2026-03-02T15:04:00Z, 2026-03-02, yesterday, last monday, -2h, 90m, 3d"
"""What times may look like, for the help."""


def not_blank(value: TextsT) -> TextsT:
    """The value, or values, of an option.

    Raises:
        typer.BadParameter: one is empty, as an unset variable of the shell leaves it.
    """
    if value is not None and not all(one.strip() for one in ([value] if isinstance(value, str) else list(value))):
        raise typer.BadParameter(_EMPTY)
    return value


def time_value(value: str | None) -> str | None:
    """A time, as the API takes it: a date stays a date, one that is relative to now becomes a time in UTC.

    Raises:
        typer.BadParameter: it is none.
    """
    if value is None:
        return None
    try:
        return read_time(not_blank(value), utc_now()).text
    except NotUsableError as error:
        raise typer.BadParameter(f"{error}.") from None
