"""The values of options, checked before anything is asked for: an option that would have no effect must not be one without a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, TypeVar

import typer

from pipeline.core.search.problems import NotUsableError
from pipeline.core.search.times import read_time
from pipeline.ops.clock import utc_now
from pipeline.ops.settings import Settings
from schemas.event_types import BUILT_IN

TextsT = TypeVar("TextsT", bound=str | Sequence[str] | None)

_EMPTY: Final = "it has no value (is a variable of the shell empty?). Give it one, or leave the option out."
_ID: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}", re.ASCII)
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)
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


def id_number(text: str) -> int:
    """An id. (``int`` would make the 10th endpoint of ``1_0``.)

    Raises:
        typer.BadParameter: it is none.
    """
    if not _ID.fullmatch(text.strip()):
        raise typer.BadParameter("It must be a whole number.")
    return int(text)


def key_id(value: str) -> str:
    """The id of an API key. What is none could lead to another place of the API.

    Raises:
        typer.BadParameter: it is none.
    """
    if not _KEY_ID.fullmatch(found := value.strip().lower()):
        raise typer.BadParameter("it is not the id of a key, which is 8 digits of 0-9 and a-f: oms-webhooks keys list")
    return found


def event_type_name(value: str) -> str:
    """The name of an event type, whether or not there is one.

    Raises:
        typer.BadParameter: no event type can be called so.
    """
    if not _NAME.fullmatch(found := value.strip()):
        raise typer.BadParameter("no event type is called so; names are of a-z, 0-9 and _: oms-webhooks event-types list")
    return found


def refuse_reversed(since: str | None, until: str | None) -> None:
    """Look at two times that ``time_value`` has read; a date as the end means its day included.

    Raises:
        typer.BadParameter: nothing can lie between them.
    """
    if since is None or until is None:
        return
    begin, end = read_time(since), read_time(until)
    if begin.at >= end.at + timedelta(days=1) if end.is_day else begin.at > end.at:
        raise typer.BadParameter(
            f"{since} is later than {until}, which --until says: nothing lies between them.", param_hint="--since"
        )


def complete_event_type(incomplete: str) -> list[str]:
    """For the completion of the shell, which asks no pipeline: the event types of these settings, or the built-in ones while its settings cannot be read."""
    try:
        names = Settings().event_types.names
    except Exception:  # noqa: BLE001 - whatever is wrong with the settings, a completion is no place to say so
        names = BUILT_IN.names
    return [name for name in names if name.startswith(incomplete)]


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
