"""``oms-webhooks erase``: erase a person's data from ClickHouse."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer
from rich.console import Group
from rich.text import Text

from consumers.cli.api_client import ApiCallError, Key, Url, WrongOptionError, client_for
from consumers.cli.console import Output, Rows, escape_markup, visible
from consumers.cli.discovery import API_URL
from consumers.cli.option_values import not_blank
from consumers.cli.standard_input import read_text
from pipeline.core.counted import counted

out = Output()

_ERASING_SECONDS = 660.0
"""Longer than the API waits for ClickHouse."""
_KINDS: Final = ("events", "attempts", "dead_letters")
_STILL_TO_COME = (
    "Attempts that are still due will be made and recorded too: retries, and deliveries that are held for a paused endpoint or "
    "wait in order."
)


def erase(
    email: Annotated[str | None, typer.Option(help="Email address. -: read it from standard input.", callback=not_blank)] = None,
    order: Annotated[str | None, typer.Option(help="Order number. -: read it from standard input.", callback=not_blank)] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Erase the data. Without this option, only print what would be erased.")
    ] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Erase a person's data from ClickHouse (needs an admin key).

    Without --yes, only prints what would be erased. With --yes, bodies, answers and references of the person's events are overwritten, and
    so are dead letters. The command then lists where data remains in Kafka and backups. If retries may still follow, run it again later.
    """
    if (email is None) == (order is None):
        raise WrongOptionError("Use either --email or --order.")
    name, value = ("email", email) if email is not None else ("order_number", order)
    wanted = {"erasure": {name: read_text().strip() if value == "-" else value}}
    with client_for(url, api_key) as client:
        if not yes:
            found = client.call("POST", "erasures/preview", json=wanted, seconds=_ERASING_SECONDS)
            has_any = _has_any(found)
            out.print(_traces("This would be erased", found) if has_any else _nothing(name), soft_wrap=True)
            out.print(_elsewhere(found, url), soft_wrap=True, highlight=False)
            out.print("Nothing was changed. To erase it, add --yes." if has_any else "Nothing was changed.")
            return
        erased = client.call("POST", "erasures", json=wanted, seconds=_ERASING_SECONDS)
    has_any, record = _has_any(erased), f"erasure {erased['id']} in the audit log"
    out.print(_traces(f"Erased ({record})", erased) if has_any else f"{_nothing(name)} ({record})", soft_wrap=True)
    out.print(_elsewhere(erased, url), soft_wrap=True, highlight=False)
    if left := sum(erased["left"][kind] for kind in _KINDS):
        rows = counted(left, "row was", "rows were")
        raise ApiCallError(f"{rows} recorded in the meantime. Run the same command again.")
    if has_any:
        out.print("ClickHouse no longer finds any of it.")


def _has_any(found: Mapping[str, Any]) -> bool:
    return any(found[kind] for kind in _KINDS)


def _nothing(name: str) -> str:
    """After a typo, too, ClickHouse finds nothing."""
    what = "email address" if name == "email" else "order number"
    return f"Nothing was found for this {what}. If you expected something, check how you wrote it."


def _traces(title: str, found: Mapping[str, Any]) -> Group:
    rows = Rows("events", "attempts", "dead letters", "orders", folded=("orders",))
    rows.add(*(f"{found[kind]:,}" for kind in _KINDS), ", ".join(found["orders"]))
    return Group(Text(title), rows)


def _elsewhere(found: Mapping[str, Any], url: str | None) -> str:
    days: dict[int, list[str]] = {}
    for kept in found["kept_elsewhere"]:
        days.setdefault(kept["days"], []).append(kept["topic"])
    topics = "; ".join(f"{counted(count, 'day')}: {', '.join(names)}" for count, names in sorted(days.items()))
    # Without the URL, the printed commands would ask the pipeline on this machine, and report that nothing is left.
    api = f" --url {shlex.quote(url)}" if url and os.environ.get(API_URL) != url else ""
    orders = "".join(f"\n  {_later(order, api)}" for order in found["orders"])
    again = f" {_STILL_TO_COME} Erase them afterwards:{orders}" if orders else ""
    return escape_markup(f"Not erased: your backups, and what Kafka keeps ({topics}).{again}")


def _later(order: str, api: str) -> str:
    """The command that erases an order. Its number, which a producer chose, must not control the terminal, nor the shell that it is pasted into."""
    if order.isprintable():
        return f"oms-webhooks erase --order {shlex.quote(order)} --yes{api}"
    return f"oms-webhooks erase --order - --yes{api}  # on standard input: {visible(order).plain}, with the characters that these escapes stand for"
