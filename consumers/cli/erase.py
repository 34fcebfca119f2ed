"""``oms-webhooks erase``: a person's data is taken out of ClickHouse."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from consumers.cli.api_client import ApiCallError, Key, Url, client_for
from consumers.cli.console import Output, Rows, plain
from consumers.cli.option_values import not_blank
from consumers.cli.standard_input import read_text

out = Output()

_ERASING_SECONDS = 660.0
"""Longer than the API waits for ClickHouse."""


def erase(
    email: Annotated[
        str | None, typer.Option(help="An e-mail address; - reads it from standard input.", callback=not_blank)
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="An order number; - reads it from standard input.", callback=not_blank)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Erase; without it, only say what would be erased.")] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Erase a person's data from ClickHouse (an admin key is needed).

    Without --yes it says what would be erased, and ends. Bodies, answers and references of the person's events are overwritten, and dead
    letters. What Kafka and your backups still hold is listed: run it again when a retry may have come after it.
    """
    if (email is None) == (order is None):
        raise ApiCallError("Give one of the two: --email or --order.")
    name, value = ("email", email) if email is not None else ("order_number", order)
    wanted = {"erasure": {name: read_text().strip() if value == "-" else value}}
    with client_for(url, api_key) as client:
        if not yes:
            found = client.call("POST", "erasures/preview", json=wanted, seconds=_ERASING_SECONDS)
            out.print(_traces("This would be erased", found))
            out.print(_elsewhere(found), soft_wrap=True, highlight=False)
            out.print("Nothing was changed. To erase it, add --yes.")
            return
        erased = client.call("POST", "erasures", json=wanted, seconds=_ERASING_SECONDS)
    out.print(_traces(f"Erased (erasure {erased['id']} in the audit)", erased))
    out.print(_elsewhere(erased), soft_wrap=True, highlight=False)
    if left := sum(erased["left"][kind] for kind in ("events", "attempts", "dead_letters")):
        raise ApiCallError(f"{left} rows were recorded meanwhile: run the same command again.")
    out.print("ClickHouse finds nothing of it any more.")


def _traces(title: str, found: Mapping[str, Any]) -> Group:
    rows = Rows("events", "attempts", "dead letters", "orders", folded=("orders",))
    rows.add(*(f"{found[kind]:,}" for kind in ("events", "attempts", "dead_letters")), ", ".join(found["orders"]))
    return Group(Text(title), rows)


def _elsewhere(found: Mapping[str, Any]) -> str:
    days: dict[int, list[str]] = {}
    for kept in found["kept_elsewhere"]:
        days.setdefault(kept["days"], []).append(kept["topic"])
    topics = "; ".join(f"{count} days: {', '.join(names)}" for count, names in sorted(days.items()))
    orders = "".join(f"\n  oms-webhooks erase --order {shlex.quote(order)} --yes" for order in found["orders"])
    again = f" Retries that are still to come are recorded then; erase them too:{orders}" if orders else ""
    return plain(f"Not erased: your backups, and what Kafka keeps ({topics}).{again}")
