"""``oms-webhooks replay``: send past events to endpoints again, at a limited rate. An interrupted replay can be resumed."""

from __future__ import annotations

import json
import secrets
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from consumers.cli.api_client import ApiAddress, ApiCallError, ApiClient, WrongOptionError, client_for
from consumers.cli.option_groups import grouped
from consumers.cli.option_values import TIMES, complete_event_type, file_name, id_number, not_blank, time_value
from pipeline.core.counted import counted
from pipeline.core.search.times import read_time
from schemas.http.replays import MAX_REPLAY_EVENTS

out = Console()
err = Console(stderr=True)

_USUAL_RATE: Final = 20.0
_STEP_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.2
"""How soon a pause notices Ctrl-C."""
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(("run", "api"), (str,)),
    "replay": (dict,),
    **dict.fromkeys(("total", "events", "sent", "skipped"), (int,)),
    **dict.fromkeys(("in_flight", "is_done"), (bool,)),
    "after": (str, type(None)),
}
"""The format of a replay's file."""
_NEEDED: Final = frozenset({"run", "replay", "total"})
_REFUSED: Final = range(400, 500)
"""Statuses that mean that nothing was done."""


class ReplayDoubt(StrEnum):
    """What to do with a step that may or may not have been sent."""

    SEND = "send"
    SKIP = "skip"


@dataclass(slots=True)
class Progressed:
    """A replay and its progress, as stored in its file."""

    run: str
    replay: dict[str, Any]
    total: int
    api: str = ""
    """The URL of the pipeline that it was started with; empty in files of earlier releases."""
    after: str | None = None
    events: int = 0
    sent: int = 0
    skipped: int = 0
    in_flight: bool = False
    """A step was started, and its answer never arrived."""
    is_done: bool = False
    path: Path = field(default=Path(), repr=False)

    def save(self) -> None:
        """Write the file atomically.

        Raises:
            ApiCallError: the file cannot be written.
        """
        state = asdict(self)
        del state["path"]
        part = self.path.with_name(f"{self.path.name}.part")
        try:
            part.write_text(json.dumps(state, indent=2) + "\n", "utf-8")
            part.replace(self.path)
        except OSError as error:
            message = f"{self.path} cannot be written: {error.strerror}. The progress of the replay cannot be saved, so nothing more is sent."
            raise ApiCallError(message) from error


@dataclass(frozen=True, slots=True)
class ReplayedEvents:
    """The events to send, and the endpoints."""

    endpoint: Annotated[
        list[int] | None, typer.Option(help="Endpoint to send the events to. Can be repeated.", parser=id_number)
    ] = None
    since: Annotated[
        str | None, typer.Option(help=f"Only events received at or after this time: {TIMES}.", callback=time_value)
    ] = None
    until: Annotated[
        str | None,
        typer.Option(
            help="Only events received before this time (a date: before that day begins). Default: now.", callback=time_value
        ),
    ] = None
    event: Annotated[
        list[str] | None,
        typer.Option(help="Only events of this type. Can be repeated.", callback=not_blank, autocompletion=complete_event_type),
    ] = None
    order: Annotated[list[str] | None, typer.Option(help="Only events of this order. Can be repeated.", callback=not_blank)] = (
        None
    )
    unmatched: Annotated[
        bool, typer.Option("--unmatched", help="Also send events that did not match the endpoint when they were received.")
    ] = False

    def wanted(self) -> dict[str, Any]:
        """The replay in the API's format.

        Raises:
            WrongOptionError: there is no endpoint or no start time.
            typer.BadParameter: ``--since`` is not before ``--until``.
        """
        if not self.endpoint or self.since is None:
            raise WrongOptionError("Use --endpoint ID and --since TIME, or --resume FILE.")
        since, until = _time(self.since), datetime.now(UTC) if self.until is None else _time(self.until)
        if since >= until:
            raise typer.BadParameter("It must be earlier than --until (default: now).", param_hint="--since")
        wanted: dict[str, Any] = {
            "endpoint_ids": self.endpoint,
            "since": since.isoformat(),
            "until": until.isoformat(),
            "event_names": self.event or [],
            "order_numbers": self.order or [],
            "matched_only": not self.unmatched,
        }
        return _without_empty_lists(wanted)


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How to run the replay."""

    rate: Annotated[float, typer.Option(min=0.1, help="Maximum number of notifications per second.")] = _USUAL_RATE
    yes: Annotated[
        bool, typer.Option("--yes", help="Send the events. Without this option, only print how many would be sent.")
    ] = False
    state: Annotated[
        Path | None,
        typer.Option(help="File to keep the progress in. Default: replay-<run>.json.", callback=file_name),
    ] = None
    resume: Annotated[Path | None, typer.Option(help="Resume the replay of this file.", callback=file_name)] = None
    in_doubt: Annotated[
        ReplayDoubt | None, typer.Option(help="With --resume: send or skip the step whose response never arrived.")
    ] = None


def _refuse_lost_options(events: ReplayedEvents, how: ReplayOptions) -> None:
    """Refuse options without effect: a resumed replay takes its options from its file.

    Raises:
        typer.BadParameter: there is such an option.
    """
    if how.resume is None:
        if how.in_doubt is not None:
            raise typer.BadParameter("It needs --resume FILE.", param_hint="--in-doubt")
        return
    given = {**asdict(events), "state": how.state}
    if lost := [f"--{name}" for name, value in given.items() if value]:
        raise typer.BadParameter(
            f"{how.resume} already says what to send, and where. Leave out {', '.join(lost)}.", param_hint="--resume"
        )


@grouped
def replay(events: ReplayedEvents, how: ReplayOptions, api: ApiAddress) -> None:
    """Send past events to endpoints again, from ClickHouse (needs an admin key).

    Bodies and webhook-ids stay the same. Events are sent in the order in which they were received, once to each endpoint, with the usual
    retries. Ctrl-C stops the replay after the current step, and --resume continues it.
    """
    _refuse_lost_options(events, how)
    with client_for(api.url, api.api_key) as client:
        if how.resume is not None:
            progressed = _read(how.resume)
            if api.url is None:
                _refuse_another_pipeline(client, progressed)
            _settle_doubt(client, progressed, how.in_doubt)
        else:
            wanted = events.wanted()
            found = client.call("POST", "replays/preview", json={"replay": wanted}, seconds=_STEP_SECONDS)
            out.print(f"{counted(found['events'], 'event')}, {counted(found['notifications'], 'notification')}.", highlight=False)
            if not found["events"]:
                out.print("No event matches, so nothing was sent. Check the options.")
                return
            if not how.yes:
                out.print("Nothing was sent. To send them, add --yes.")
                return
            run = secrets.token_hex(4)
            path = how.state or Path(f"replay-{run}.json")
            progressed = Progressed(run, wanted, found["notifications"], client.root, path=path)
            if progressed.path.exists():
                raise ApiCallError(f"{progressed.path} already exists. Resume it (--resume), or use another file (--state).")
            progressed.save()
        _carry_out(client, progressed, how.rate)
    _print_progress(progressed, how.rate)


def _without_empty_lists(wanted: dict[str, Any]) -> dict[str, Any]:
    """Leave out empty lists. For the API, a missing list means all."""
    return {name: value for name, value in wanted.items() if value != []}


def _time(text: str) -> datetime:
    return read_time(text).at


def _read(path: Path) -> Progressed:
    try:
        kept = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise WrongOptionError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        kept = None
    is_one = isinstance(kept, dict) and _NEEDED <= kept.keys() <= _KINDS.keys()
    if not is_one or not all(type(value) in _KINDS[name] for name, value in kept.items()):
        raise WrongOptionError(f"{path} was not created by `oms-webhooks replay`.")
    progressed = Progressed(**kept, path=path)
    if progressed.is_done:
        sent = counted(progressed.sent, "notification was", "notifications were")
        raise ApiCallError(f"The replay of {path} is done: {sent} sent.")
    return progressed


def _refuse_another_pipeline(client: ApiClient, progressed: Progressed) -> None:
    """A pipeline that just runs on this machine would send its own events to its own endpoints, and the replay would count as done.

    Raises:
        ApiCallError: the replay was started with another pipeline.
    """
    if progressed.api and progressed.api != client.root:
        raise ApiCallError(
            f"This replay was started with the API at {progressed.api}, not with the one at {client.root}. Nothing was sent. Use --url "
            "(OMS_WEBHOOKS_API_URL) and --api-key (OMS_WEBHOOKS_API_KEY) of the API to continue with."
        )


def _settle_doubt(client: ApiClient, progressed: Progressed, in_doubt: ReplayDoubt | None) -> None:
    """A step that was started and not answered may have been sent. The user must choose between sending it twice and not at all."""
    if not progressed.in_flight:
        return
    if in_doubt is None:
        message = (
            f"The replay was interrupted during a step. Up to {MAX_REPLAY_EVENTS} events may or may not have been sent. Check the "
            "attempts (oms-webhooks attempts), then use --in-doubt send (some may arrive twice) or --in-doubt skip (some may be missing)."
        )
        raise ApiCallError(message)
    progressed.in_flight = False
    if in_doubt is ReplayDoubt.SKIP:
        _advance(progressed, _step(client, progressed, skip=True))
    progressed.save()


def _carry_out(client: ApiClient, progressed: Progressed, rate: float) -> None:
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress, _until_interrupted() as is_interrupted:
        task = progress.add_task("notifications", total=progressed.total, completed=progressed.sent)
        started, before = time.monotonic(), progressed.sent
        while not progressed.is_done and not is_interrupted():
            progressed.in_flight = True
            progressed.save()
            try:
                step = _step(client, progressed)
            except ApiCallError as error:
                progressed.in_flight = error.status not in _REFUSED
                progressed.save()
                raise ApiCallError(f"{error}\n{_unfinished(progressed, rate)}", error.status) from error
            progressed.in_flight = False
            _advance(progressed, step)
            progressed.save()
            progress.update(task, completed=progressed.sent)
            _pause(started + (progressed.sent - before) / rate, is_interrupted)


def _pause(until: float, is_interrupted: Callable[[], bool]) -> None:
    """Sleep, but not after Ctrl-C: its handler does not shorten a sleep."""
    while not is_interrupted() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _LOOK_SECONDS))


def _step(client: ApiClient, progressed: Progressed, *, skip: bool = False) -> dict[str, Any]:
    # The files of earlier releases have empty lists.
    wanted = _without_empty_lists(progressed.replay) | {
        "run": progressed.run,
        "after": progressed.after,
        "limit": MAX_REPLAY_EVENTS,
        "skip": skip,
    }
    answer: dict[str, Any] = client.call("POST", "replays", json={"replay": wanted}, seconds=_STEP_SECONDS)
    return answer


def _advance(progressed: Progressed, step: dict[str, Any]) -> None:
    progressed.events += step["events"]
    progressed.sent += step["sent"]
    progressed.skipped += step["skipped"]
    progressed.is_done = step["next"] is None
    progressed.after = step["next"] or progressed.after


@contextmanager
def _until_interrupted() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM stop the replay after a step. (Only the main thread may set signal handlers.)"""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted.is_set
        return
    former = {number: signal.signal(number, lambda *_: interrupted.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted.is_set
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _print_progress(progressed: Progressed, rate: float) -> None:
    without = counted(progressed.skipped, "event no longer has", "events no longer have")
    skipped = f" {without} a body." if progressed.skipped else ""
    sent, are = counted(progressed.sent, "notification"), "is" if progressed.sent == 1 else "are"
    done = f"{sent} of {counted(progressed.events, 'event')} {are} queued (replay {progressed.run}).{skipped}"
    if not progressed.is_done:
        done += f"\n{_unfinished(progressed, rate)}"
    out.print(done, markup=False, highlight=False, soft_wrap=True)
    if not progressed.is_done:
        raise typer.Exit(1)


def _unfinished(progressed: Progressed, rate: float) -> str:
    """How to continue, at the same rate. The file does not contain it, so that it can be changed."""
    given = "" if rate == _USUAL_RATE else f" --rate {rate:g}"
    return f"The replay is not finished. Continue with: oms-webhooks replay --resume {shlex.quote(str(progressed.path))}{given}"
