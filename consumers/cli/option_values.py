"""Checks of option values before anything is sent. An option that would have no effect is refused, not ignored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from pipeline.core.search.problems import NotUsableError
from pipeline.core.search.times import read_time
from pipeline.ops.clock import utc_now
from pipeline.ops.settings import Settings
from schemas.event_types import BUILT_IN

AsPlainJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""For a command that does not print the API's JSON."""
TextsT = TypeVar("TextsT", bound=str | Sequence[str] | None)

_EMPTY: Final = "it has no value (is a shell variable empty?). Give it one, or leave the option out."
_ID: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}", re.ASCII)
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)
TIMES: Final = (
    "2026-03-02T15:04:00Z, 2026-03-02, yesterday, last monday, -2h, 90m, 3d. Days, and times without an offset, are in UTC"
)
"""Examples of times, for the help. (Tables on a terminal have local times.)"""


def not_blank(value: TextsT) -> TextsT:
    """The value, or values, of an option.

    Raises:
        typer.BadParameter: a value is empty, for example because a shell variable is not set.
    """
    if value is not None and not all(one.strip() for one in ([value] if isinstance(value, str) else list(value))):
        raise typer.BadParameter(_EMPTY)
    return value


def file_name(value: Path | None) -> Path | None:
    """The name of a file.

    Raises:
        typer.BadParameter: it is empty, for example because a shell variable is not set, or a directory.
    """
    if value is not None and not value.name:
        raise typer.BadParameter(_EMPTY)
    if value is not None and value.is_dir():
        raise typer.BadParameter("it is a directory. Specify a file in it.")
    return value


def are_given(context: typer.Context, *names: str) -> bool:
    """Whether one of these parameters is on the command line, not only in a variable."""
    sources = [context.get_parameter_source(name) for name in names]
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


def id_number(text: str) -> int:
    """An id. (``int`` would read ``1_0`` as endpoint 10.)

    Raises:
        typer.BadParameter: it is not an id.
    """
    if not _ID.fullmatch(text.strip()):
        too_long = text.isascii() and text.strip().isdigit()
        raise typer.BadParameter(f"It must be a whole number{' of at most 18 digits' if too_long else ''}.")
    return int(text)


def key_id(value: str) -> str:
    """The id of an API key. Other text could change the path of the request.

    Raises:
        typer.BadParameter: it is not an id.
    """
    if not _KEY_ID.fullmatch(found := value.strip().lower()):
        raise typer.BadParameter(
            "this is not the id of a key. Ids have 8 characters of 0-9 and a-f. To list them, run: oms-webhooks keys list"
        )
    return found


def event_type_name(value: str) -> str:
    """The name of an event type. The event type does not need to exist.

    Raises:
        typer.BadParameter: this cannot be the name of an event type.
    """
    if not _NAME.fullmatch(found := value.strip()):
        raise typer.BadParameter(
            "this is not the name of an event type. Names consist of a-z, 0-9 and _. To list them, run: oms-webhooks event-types list"
        )
    return found


def refuse_reversed(since: str | None, until: str | None) -> None:
    """Check two times that ``time_value`` has read. If the end is a date, that day is included.

    Raises:
        typer.BadParameter: the start is after the end.
    """
    if since is None or until is None:
        return
    begin, end = read_time(since), read_time(until)
    if begin.at >= end.at + timedelta(days=1) if end.is_day else begin.at > end.at:
        raise typer.BadParameter(f"{since} is later than --until {until}, so nothing can match.", param_hint="--since")


def complete_event_type(incomplete: str) -> list[str]:
    """Event types for shell completion: those in the settings, or the built-in ones if the settings cannot be read. No pipeline is asked."""
    try:
        names = Settings().event_types.names
    except Exception:  # noqa: BLE001 - completion is not the place to report bad settings
        names = BUILT_IN.names
    return [name for name in names if name.startswith(incomplete)]


def time_value(value: str | None) -> str | None:
    """A time in the API's format. A date stays a date. A time relative to now becomes a time in UTC.

    Raises:
        typer.BadParameter: it is not a time.
    """
    if value is None:
        return None
    try:
        return read_time(not_blank(value), utc_now()).text
    except NotUsableError as error:
        raise typer.BadParameter(f"{error}.") from None
