"""``oms-webhooks dead-letters``: commands that call the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from consumers.cli import tables
from consumers.cli.api_client import Key, Url, client_for
from consumers.cli.console import Output
from consumers.cli.discovery import print_notice
from consumers.cli.endpoints import AsJson
from consumers.cli.option_values import id_number, not_blank
from pipeline.core.counted import counted
from schemas.delivery import DeadLetterReason

out = Output()

dead_letters_app = typer.Typer(
    no_args_is_help=True, help="List, show and dismiss dead letters: records that could not be used (through the HTTP API)."
)


@dead_letters_app.command("list")
def dead_letters_list(
    reason: Annotated[DeadLetterReason | None, typer.Option(help="Only dead letters with this reason.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only dead letters from this topic.", callback=not_blank)] = None,
    page: Annotated[int, typer.Option(min=1, help="Page.")] = 1,
    as_json: AsJson = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """List the dead letters, newest first, including those that were published again or dismissed."""
    filters = {"q[reason_eq]": reason.value if reason else None, "q[topic_eq]": topic, "page": str(page)}
    with client_for(url, api_key) as client:
        found = client.call("GET", "dead_letters", params=[(name, value) for name, value in filters.items() if value])
        if not found["total_count"] and (reason or topic):
            every = client.call("GET", "dead_letters", params=[("per_page", "1")])["total_count"]
            print_notice(f"None match these options. Without them, the list has {counted(every, 'dead letter')}.")
    out.print_data(found) if as_json else out.print(tables.dead_letters(found))


@dead_letters_app.command("show")
def dead_letters_show(
    identifier: Annotated[int, typer.Argument(metavar="ID", help="The dead letter's id.", parser=id_number)],
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Print a dead letter with its bytes, as JSON. The audit log records that you viewed it."""
    with client_for(url, api_key) as client:
        out.print_data(client.call("GET", f"dead_letters/{identifier}"))


@dead_letters_app.command("dismiss")
def dead_letters_dismiss(
    identifier: Annotated[int, typer.Argument(metavar="ID", help="The dead letter's id.", parser=id_number)],
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Remove a dead letter from the list of those to repair, without publishing it. The audit log records that you dismissed it."""
    with client_for(url, api_key) as client:
        done = client.call("POST", f"dead_letters/{identifier}/dismiss")
    out.print(f"Dead letter {done['id']} is dismissed.", highlight=False)
