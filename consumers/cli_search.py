"""``oms-webhooks attempts``, ``attempts resend`` and ``sql``: questions to the running pipeline, answered as tables, JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from consumers import show
from consumers.api_client import ApiError, Key, Url, client_for
from consumers.cli_values import TIMES, not_blank, time_value
from consumers.printing import Output
from pipeline.core.search.keys import is_filter_key
from pipeline.core.spreadsheets import cell
from schemas.attempt import AttemptState
from schemas.event import EventType

attempts_app = typer.Typer(help="Search the attempts, or resend one.")

out = Output()

_LOOK_SECONDS = 1.0
"""Between two looks at how far a run has come."""


class Format(StrEnum):
    """How answers are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


As = Annotated[Format, typer.Option("--format", help="table, json or csv.")]


@attempts_app.callback(invoke_without_command=True)
def attempts(
    context: typer.Context,
    order: Annotated[str | None, typer.Option(help="Order number.", callback=not_blank)] = None,
    shipment: Annotated[
        list[str] | None, typer.Option(help="Shipment number; repeat it for several.", callback=not_blank)
    ] = None,
    subscription: Annotated[str | None, typer.Option(help="Subscription id.", callback=not_blank)] = None,
    endpoint: Annotated[int | None, typer.Option(help="Endpoint id.")] = None,
    event: Annotated[EventType | None, typer.Option(help="Event type.")] = None,
    state: Annotated[AttemptState | None, typer.Option(help="How they ended.", case_sensitive=False)] = None,
    body: Annotated[str | None, typer.Option(help="A piece of the request's body, in any case.", callback=not_blank)] = None,
    since: Annotated[str | None, typer.Option(help=f"Not before it: {TIMES}.", callback=time_value)] = None,
    until: Annotated[str | None, typer.Option(help="Not after it, a date's day included.", callback=time_value)] = None,
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--q", help="Any other filter: attribute_predicate=value, g][0][m=or, s=created_at asc; see docs/search.md."
        ),
    ] = None,
    page: Annotated[int, typer.Option(min=1, help="Page.")] = 1,
    per_page: Annotated[int, typer.Option(min=1, max=200, help="Attempts a page.")] = 25,
    after: Annotated[str | None, typer.Option(help="Go on behind this cursor of an earlier answer.", callback=not_blank)] = None,
    all_pages: Annotated[
        bool,
        typer.Option(
            "--all",
            help="All that is found, page after page (json: one attempt a line). In another order than that of time, an attempt may come "
            "twice when others are recorded meanwhile.",
        ),
    ] = False,
    strict: Annotated[bool, typer.Option(help="A filter that would be ignored is an error.")] = False,
    form: As = Format.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Search the attempts: by order, endpoint, event type, state, time, a piece of the body, or any filter of the API."""
    if context.invoked_subcommand is not None:
        _refuse_lost_options(context, context.invoked_subcommand)
        return
    simple = {
        "order_number_eq": order,
        "subscription_id_eq": subscription,
        "endpoint_id_eq": endpoint,
        "event_name_eq": event.value if event else None,
        "state_eq": state.value if state else None,
        "request_body_cont": body,
        "created_at_gteq": since,
        "created_at_lteq": until,
    }
    params = [(f"q[{name}]", str(value)) for name, value in simple.items() if value is not None]
    params += [("q[shipment_number_in][]", number) for number in shipment or []]
    params += _filters(query or [])
    params += [("per_page", str(200 if all_pages else per_page))]
    params += [("strict", "1")] if strict else []
    form = Format.JSON if as_json else form
    asked: tuple[str, str] | None = ("after", after) if after else ("page", str(page))
    is_first = True
    with client_for(url, api_key) as client:
        while asked:
            found = client.call("GET", "attempts", params=[*params, asked])
            _print_page(found, form, is_first=is_first, as_lines=all_pages)
            asked, is_first = _following(found, asked[0]) if all_pages else None, False


def _refuse_lost_options(context: typer.Context, command: str) -> None:
    """Options of the search before a command would have no effect: the command would do more than was meant, or ask another API.

    Raises:
        ApiError: there is one.
    """
    sources = {name: context.get_parameter_source(name) for name in context.params}
    if any(source is not None and source.name == "COMMANDLINE" for source in sources.values()):
        raise ApiError(
            f"Options before {command} are those of the search. Write them behind it; `oms-webhooks attempts {command} --help`."
        )


def _following(found: Mapping[str, Any], asked_by: str) -> tuple[str, str] | None:
    """The parameter that the next page is asked for with; None at the end. Only in the order of time is there a cursor."""
    if found["next_cursor"]:
        return "after", found["next_cursor"]
    if asked_by == "after" or not found["attempts"]:
        return None
    # A count that is not exact is a lower bound.
    has_more = found["current_page"] < found["pages"] or not found["total_count_is_exact"]
    return ("page", str(found["current_page"] + 1)) if has_more else None


def _filters(query: Sequence[str], *, is_search: bool = True) -> list[tuple[str, str]]:
    """The parameters of ``--q``: ``order_number_eq=R1``, or with its brackets as in a link.

    A search leaves out a filter without a value, and says so; what is more than a search must not reach further by that.

    Raises:
        ApiError: one is not attribute_predicate=value, or has no value where that matters.
    """
    params = []
    for part in query:
        name, sign, value = part.partition("=")
        if not name.strip() or not sign:
            raise ApiError(f"--q {part!r} is no filter; write attribute_predicate=value, such as --q endpoint_id_eq=7.")
        if not value.strip():
            empty = f"--q {part!r} has no value (is a variable of the shell empty?)"
            if not is_search:
                raise ApiError(
                    f"{empty}, and without that filter more would be sent again than was meant. Give it one, or leave it out."
                )
            sys.stderr.write(f"{empty}: it is left out.\n")
        params.append((name if is_filter_key(name) else f"q[{name}]", value))
    return params


@attempts_app.command("resend-failed")
def resend_failed(
    query: Annotated[
        list[str],
        typer.Option("--q", help="A filter: attribute_predicate=value, such as endpoint_id_eq=7; repeat it. See docs/search.md."),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Send all failed notifications of a search again, each once; says how many, asks, and tells when it is done.

    Ctrl-C ends the telling, not the run: POST resends/ID/cancel or the page of the run does.
    """
    params = _filters(query, is_search=False)
    with client_for(url, api_key) as client:
        found = client.call("GET", "resends/preview", params=[*params, ("strict", "1")])
        question = f"Resend {found['notifications']:,} notifications ({found['attempts']:,} failed attempts)?"
        if not found["notifications"] or not (yes or typer.confirm(question)):
            out.print("Nothing was sent.")
            return
        run = client.call("POST", "resends", params=params)
        while run["state"] in ("running", "cancelling"):
            time.sleep(_LOOK_SECONDS)
            run = client.call("GET", f"resends/{run['id']}")
    told = f"Run {run['id']}: {run['state']}. {run['resent']:,} of {run['total']:,} resent, {run['delivered']:,} were delivered already, "
    out.print(
        f"{told}{run['skipped']:,} could not be sent. {run['problem']}".rstrip(), markup=False, highlight=False, soft_wrap=True
    )
    if run["state"] != "done":
        raise typer.Exit(1)


@attempts_app.command("resend")
def resend(attempt_id: Annotated[int, typer.Argument(help="The attempt's id.")], url: Url = None, api_key: Key = None) -> None:
    """Send a notification again: the same body and webhook-id, to the endpoint as it is now."""
    with client_for(url, api_key) as client:
        queued = client.call("POST", f"attempts/{attempt_id}/resend")
    out.print(
        f"Event {queued['event_id']} is on its way to endpoint {queued['endpoint_id']}, {queued['target_url']}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def sql(
    statement: Annotated[str, typer.Argument(help="One SELECT; - reads it from standard input.")],
    form: As = Format.TABLE,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Ask the ClickHouse of the embedded pipeline, read-only. Start with: SELECT * FROM attempt_history LIMIT 5."""
    text = sys.stdin.read() if statement == "-" else statement
    with client_for(url, api_key) as client:
        try:
            found = client.call("POST", "sql", json={"statement": text})
        except ApiError as error:
            if error.status != 404:
                raise
            message = (
                "That pipeline has a ClickHouse server of its own; ask it directly (clickhouse-client), with the analysts' role of "
                "deploy/clickhouse. `sql` is for ClickHouse in process."
            )
            raise ApiError(message) from error
    match form:
        case Format.TABLE:
            out.print(show.answer(found))
        case Format.JSON:
            out.print_json(data=found)
        case Format.CSV:
            _print_csv([name for name, _ in found["columns"]], found["rows"])


def _print_page(page: Mapping[str, Any], form: Format, *, is_first: bool, as_lines: bool) -> None:
    match form:
        case Format.TABLE:
            out.print(show.attempts(page))
        case Format.JSON if as_lines:
            sys.stdout.writelines(json.dumps(attempt, ensure_ascii=False) + "\n" for attempt in page["attempts"])
        case Format.JSON:
            out.print_json(data=page)
        case Format.CSV:
            names = list(page["attempts"][0]) if page["attempts"] else []
            rows = ([attempt[name] for name in names] for attempt in page["attempts"])
            _print_csv(names if is_first else [], rows)
    if form is not Format.TABLE and is_first and (ignored := page["ignored_filters"]):
        sys.stderr.write(f"Ignored filters: {'; '.join(ignored)}\n")


def _print_csv(names: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """With a header unless there is none. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if names:
        writer.writerow(names)
    writer.writerows(map(cell, row) for row in rows)
