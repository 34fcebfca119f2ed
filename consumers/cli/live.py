"""``oms-webhooks tail`` and ``open``: follow new attempts, and find a page of the dashboard."""

from __future__ import annotations

import shlex
import time
import webbrowser
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Protocol
from urllib.parse import quote, urlencode

import typer
from rich.cells import cell_len
from rich.text import Text

from consumers.cli.api_client import ApiCallError, ForeignAnswerError, Key, ServerEvent, Url, checked_url, client_for
from consumers.cli.console import Output, shortened, visible
from consumers.cli.discovery import local_pipeline, print_notice, root_of
from consumers.cli.search import endpoint_names, filters_of
from pipeline.web.quick_search import ReferenceKind, recognize

out = Output()

_PATH: Final = "attempts/live"
_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE: Final = 10.0
_REMEMBERED: Final = 20_000
_OVER: Final = 401
_LEAST: Final = 12
_MAX_EVENT: Final = 33
"""In columns of the terminal: the least that a shortened text gets, and the most that an event type gets."""
_TIMELINE_PAGES: Final = {ReferenceKind.ORDER: "orders", ReferenceKind.SHIPMENT: "shipments"}


def tail(
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--q", help="Filter: attribute_predicate=value, such as endpoint_id_eq=7. Can be repeated. See docs/search.md."
        ),
    ] = None,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Print attempts as they are recorded, one per line, until you press Ctrl-C."""
    params = filters_of(query or [], is_strict=True)
    try:
        with client_for(url, api_key) as client:
            names = endpoint_names(client) if out.is_terminal else {}
            for attempt in new_attempts(client, params):
                out.print(line_of(attempt, names, out.width if out.is_terminal else None), soft_wrap=True)
    except KeyboardInterrupt:
        return


class EventSource(Protocol):
    """The source of attempts: the API's client."""

    def events(self, path: str, params: list[tuple[str, str]]) -> Iterator[ServerEvent]:
        """Attempts from one stream, until it breaks."""


def new_attempts(
    source: EventSource, params: list[tuple[str, str]], *, wait: Callable[[float], None] = time.sleep
) -> Iterator[Mapping[str, Any]]:
    """Attempts as they are recorded, each once, from the stream that the dashboard uses. A broken stream is opened again, after pauses that
    become longer. What was missed meanwhile is printed.

    Raises:
        ApiCallError: the stream was refused, or the key is no longer valid.
    """
    shown: deque[int] = deque(maxlen=_REMEMBERED)
    is_open, last_id, told, pause = False, "", "", _PAUSE_SECONDS
    while True:
        seen = [("last_event_id", last_id)] if last_id else []
        try:
            for event in source.events(_PATH, [*params, *seen, ("strict", "1")]):
                is_open, told, pause = True, "", _PAUSE_SECONDS
                known = set(shown)
                fresh = [one for one in _attempts(event, params) if one["id"] not in known]
                shown.extend(one["id"] for one in fresh)
                yield from fresh
                last_id = event.id or last_id
        except ApiCallError as error:
            # A refusal is raised. A server that was reachable before may come back. While it starts, it answers 503, or a proxy answers:
            # 502, or 404 because it knows no server for the path.
            is_refused = 0 < error.status < 500 and not isinstance(error, ForeignAnswerError)
            if not is_open or is_refused:
                raise
            if str(error) != told:  # there is an attempt after each pause
                told = str(error)
                print_notice(told)
        wait(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _attempts(event: ServerEvent, params: Iterable[tuple[str, str]]) -> list[Mapping[str, Any]]:
    """The attempts in an event of the stream. A problem, or what was missed, is printed, and has no attempts.

    Raises:
        ApiCallError: the key is no longer allowed to watch.
    """
    data = event.data or {}
    if event.name == "over":
        raise ApiCallError(data["error"], _OVER)
    if event.name == "problem":
        print_notice(data["error"])
    if missed := data.get("missed"):
        print_notice(_missed(missed, params))
    found: list[Mapping[str, Any]] = data.get("attempts", [])
    return found


def _missed(missed: Mapping[str, Any], params: Iterable[tuple[str, str]]) -> str:
    """What is not shown, and the command that lists it."""
    since, until, count = missed["created_at_gteq"], missed["created_at_lt"], missed["count"]
    times = [("q[created_at_gteq]", since), ("q[created_at_lt]", until)]
    filters = " ".join(f"--q {shlex.quote(f'{name}={value}')}" for name, value in [*params, *times])
    if count is None:
        what = "Attempts may be missing here"
    else:
        least = "" if missed["count_is_exact"] else "at least "
        what = f"Missing here: {least}{count:,} {'attempt' if count == 1 else 'attempts'}"
    return f"{what}, from {since} to {until}. List them: oms-webhooks attempts {filters}"


def line_of(attempt: Mapping[str, Any], names: Mapping[int, str], width: int | None) -> Text:
    """An attempt as a line. Its event and endpoint are shortened to fit the terminal's ``width``; None: nothing is shortened."""
    ok = attempt["state"] == "succeeded"
    about = visible(str(attempt["order_number"] or attempt["stock_item_id"] or "")).plain
    is_made = attempt["outcome"] not in ("discarded", "expired")
    answer = str(attempt["http_status_code"] or ("no response" if is_made else f"not sent: {attempt['outcome']}"))
    answer += f"  (attempt {attempt['attempt']})" if attempt["attempt"] > 1 else ""
    event, endpoint = attempt["event_name"], names.get(attempt["endpoint_id"]) or attempt["target_url"]
    if width is not None:
        room = max(width - len(f"HH:MM:SS  {about:16}    {answer}"), 2 * _LEAST)
        for_event = min(_MAX_EVENT, max(room // 2, room - cell_len(endpoint)))
        event, endpoint = shortened(event, for_event), shortened(endpoint, room - for_event)
        line = f"{_time(attempt).astimezone():%H:%M:%S}  {about:16} {event:{for_event}}  {endpoint} "
    else:
        line = f"{_time(attempt).astimezone():%H:%M:%S}  {event:33} {about:16} {visible(endpoint).plain}  "
    return Text.assemble(line, (answer, "green" if ok else "red"))


def _time(attempt: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(attempt["created_at"])


def open_page(
    text: Annotated[list[str], typer.Argument(help="An order, shipment, event id, SKU, endpoint, or any text in a body.")],
    browser: Annotated[bool, typer.Option("--browser", help="Also open the page in a browser.")] = False,
    url: Url = None,
) -> None:
    """Print the URL of the dashboard page for a search text, such as an order number."""
    if not any(word.strip() for word in text):
        raise typer.BadParameter("The search text is empty. Is a shell variable empty?", param_hint="TEXT")
    if not all(word.isascii() or word.encode("utf-8", "replace").decode() == word for word in text):
        raise typer.BadParameter("This is not valid UTF-8 text.", param_hint="TEXT")
    url = checked_url(url) if url else None
    note = local_pipeline(url)
    if not url and note is None:
        raise typer.BadParameter("No running pipeline was found on this machine. Use --url (OMS_WEBHOOKS_API_URL).")
    page = page_of(url or (note.url if note is not None else ""), text)
    out.print(page, markup=False, highlight=False, soft_wrap=True)
    if browser:
        webbrowser.open(page)


def page_of(url: str, words: Iterable[str]) -> str:
    """The URL of an order's or a shipment's timeline on the dashboard at ``url``. For other texts, and for a number in another spelling (which may
    be on record as it is): the URL of its search box.
    """
    text = " ".join(words)
    found = recognize(text).certain
    folder = _TIMELINE_PAGES.get(found.kind) if found is not None else None
    if found is not None and folder is not None and found.value == text.strip():
        return f"{root_of(url)}/webhooks/{folder}/{quote(found.value, safe='')}"
    return f"{root_of(url)}/webhooks/go?{urlencode({'text': text})}"
