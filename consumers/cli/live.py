"""``oms-webhooks tail`` and ``open``: attempts as they come in, and where the dashboard shows something."""

from __future__ import annotations

import time
import webbrowser
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Protocol
from urllib.parse import quote, urlencode

import typer
from rich.text import Text

from consumers.cli.api_client import ApiCallError, Key, Url, checked_url, client_for
from consumers.cli.console import Output
from consumers.cli.discovery import local_pipeline, root_of, say
from consumers.cli.search import filters_of
from pipeline.web.quick_search import ReferenceKind, recognise

out = Output()

_PATH: Final = "attempts/live"
_PAUSE_SECONDS: Final = 1.0
_REMEMBERED: Final = 20_000
_OVER: Final = 401
_STORIES: Final = {ReferenceKind.ORDER: "orders", ReferenceKind.SHIPMENT: "shipments"}


def tail(
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--q", help="Only these: attribute_predicate=value, such as endpoint_id_eq=7; repeat it. See docs/search.md."
        ),
    ] = None,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Print attempts as they are recorded, one per line, until you press Ctrl-C."""
    params = filters_of(query or [])
    try:
        with client_for(url, api_key) as client:
            for attempt in new_attempts(client, params):
                out.print(_line(attempt), soft_wrap=True)
    except KeyboardInterrupt:
        return


class EventSource(Protocol):
    """What attempts come from: the API's client."""

    def events(self, path: str, params: list[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
        """A stream, until it breaks off."""


def new_attempts(
    source: EventSource, params: list[tuple[str, str]], *, wait: Callable[[float], None] = time.sleep
) -> Iterator[Mapping[str, Any]]:
    """Attempts as they are recorded, each once, from the stream that the dashboard shows too. It is opened anew when it breaks off.

    Raises:
        ApiCallError: the stream is refused; or the key is not valid any more.
    """
    shown: deque[int] = deque(maxlen=_REMEMBERED)
    is_open = False
    while True:
        try:
            for name, data in source.events(_PATH, [*params, ("strict", "1")]):
                is_open = True
                known = set(shown)
                fresh = [one for one in _attempts(name, data) if one["id"] not in known]
                shown.extend(one["id"] for one in fresh)
                yield from fresh
        except ApiCallError as error:
            # What refuses is told; who was there and is gone may come back.
            if error.status or not is_open:
                raise
            say(str(error))
        wait(_PAUSE_SECONDS)


def _attempts(name: str, data: Any) -> list[Mapping[str, Any]]:
    """The attempts of an event. A problem is told, and has none.

    Raises:
        ApiCallError: the key may not watch any more.
    """
    if name == "over":
        raise ApiCallError(data["error"], _OVER)
    if name == "problem":
        say(data["error"])
    found: list[Mapping[str, Any]] = data.get("attempts", [])
    return found


def _line(attempt: Mapping[str, Any]) -> Text:
    ok = attempt["state"] == "succeeded"
    about = attempt["order_number"] or attempt["stock_item_id"] or ""
    line = f"{_time(attempt).astimezone():%H:%M:%S}  {attempt['event_name']:33} {about!s:16} {attempt['target_url']}  "
    answer = attempt["http_status_code"] or "no answer"
    retry = f"  (attempt {attempt['attempt']})" if attempt["attempt"] > 1 else ""
    return Text.assemble(line, (f"{answer}{retry}", "green" if ok else "red"))


def _time(attempt: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(attempt["created_at"])


def open_page(
    text: Annotated[list[str], typer.Argument(help="An order, shipment, event id, SKU, endpoint, or any text of a body.")],
    browser: Annotated[bool, typer.Option("--browser", help="Open it in a browser, too.")] = False,
    url: Url = None,
) -> None:
    """Print the address of the dashboard's page about something, such as an order number."""
    if not any(word.strip() for word in text):
        raise typer.BadParameter("There is nothing to look for (is a variable of the shell empty?).", param_hint="TEXT")
    if not all(word.isascii() or word.encode("utf-8", "replace").decode() == word for word in text):
        raise typer.BadParameter("It is not text (UTF-8).", param_hint="TEXT")
    url = checked_url(url) if url else None
    note = local_pipeline(url)
    if not url and note is None:
        raise typer.BadParameter("No running pipeline was found on this machine: give --url (OMS_WEBHOOKS_API_URL).")
    page = page_of(url or (note.url if note is not None else ""), text)
    out.print(page, markup=False, highlight=False, soft_wrap=True)
    if browser:
        webbrowser.open(page)


def page_of(url: str, words: Iterable[str]) -> str:
    """Where the dashboard at ``url`` has the story of an order or a shipment. What else was typed, its search box leads to."""
    text = " ".join(words)
    found = recognise(text).certain
    folder = _STORIES.get(found.kind) if found is not None else None
    if found is not None and folder is not None:
        return f"{root_of(url)}/webhooks/{folder}/{quote(found.value, safe='')}"
    return f"{root_of(url)}/webhooks/go?{urlencode({'text': text})}"
