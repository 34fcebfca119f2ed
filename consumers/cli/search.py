"""``oms-webhooks attempts``, ``attempts resend`` and ``sql``: questions to the running pipeline, answered as tables, JSON or CSV."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from consumers.cli import tables
from consumers.cli.api_client import ApiAddress, ApiCallError, Key, Url, client_for
from consumers.cli.console import Output
from consumers.cli.known_event_types import require_event_type
from consumers.cli.option_groups import grouped
from consumers.cli.option_values import TIMES, complete_event_type, id_number, not_blank, refuse_reversed, time_value
from consumers.cli.standard_input import read_text
from pipeline.core.csv_cells import cell
from pipeline.core.search.query_keys import is_filter_key
from schemas.attempt import AttemptState
from schemas.http.attempts import AttemptAnswer

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


@dataclass(frozen=True, slots=True)
class AttemptFilters:
    """Which attempts are searched for."""

    order: Annotated[str | None, typer.Option(help="Order number.", callback=not_blank)] = None
    shipment: Annotated[list[str] | None, typer.Option(help="Shipment number; repeat it for several.", callback=not_blank)] = None
    subscription: Annotated[str | None, typer.Option(help="Subscription id.", callback=not_blank)] = None
    endpoint: Annotated[int | None, typer.Option(help="Endpoint id.", parser=id_number)] = None
    event: Annotated[str | None, typer.Option(help="Event type.", callback=not_blank, autocompletion=complete_event_type)] = None
    state: Annotated[AttemptState | None, typer.Option(help="How they ended.", case_sensitive=False)] = None
    body: Annotated[str | None, typer.Option(help="A piece of the request's body, in any case.", callback=not_blank)] = None
    since: Annotated[str | None, typer.Option(help=f"Not before it: {TIMES}.", callback=time_value)] = None
    until: Annotated[str | None, typer.Option(help="Not after it, a date's day included.", callback=time_value)] = None
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--q", help="Any other filter: attribute_predicate=value, g][0][m=or, s=created_at asc; see docs/search.md."
        ),
    ] = None

    def params(self) -> list[tuple[str, str]]:
        """As the API takes them.

        Raises:
            ApiError: a filter of ``--q`` is none.
            typer.BadParameter: ``--since`` is later than ``--until``.
        """
        refuse_reversed(self.since, self.until)
        simple = {
            "order_number_eq": self.order,
            "subscription_id_eq": self.subscription,
            "endpoint_id_eq": self.endpoint,
            "event_name_eq": self.event,
            "state_eq": self.state.value if self.state else None,
            "request_body_cont": self.body,
            "created_at_gteq": self.since,
            "created_at_lteq": self.until,
        }
        params = [(f"q[{name}]", str(value)) for name, value in simple.items() if value is not None]
        params += [("q[shipment_number_in][]", number) for number in self.shipment or []]
        return params + filters_of(self.query or [])


@dataclass(frozen=True, slots=True)
class PageChoice:
    """How much of what is found is printed."""

    page: Annotated[int | None, typer.Option(min=1, help="Page. Default: the first.")] = None
    per_page: Annotated[int | None, typer.Option(min=1, max=200, help="Attempts a page. Default: 25, and 200 with --all.")] = None
    after: Annotated[str | None, typer.Option(help="Go on behind this cursor of an earlier answer.", callback=not_blank)] = None
    all_pages: Annotated[
        bool,
        typer.Option(
            "--all",
            help="All that is found, page after page (json: one attempt a line). In another order than that of time, an attempt may come "
            "twice when others are recorded meanwhile.",
        ),
    ] = False
    strict: Annotated[bool, typer.Option(help="A filter that would be ignored is an error.")] = False

    def params(self) -> list[tuple[str, str]]:
        """As the API takes them, but for where to begin.

        Raises:
            typer.BadParameter: two of them contradict each other.
        """
        if self.page is not None and (self.all_pages or self.after is not None):
            other = "--all prints every page" if self.all_pages else "--after says where to go on"
            raise typer.BadParameter(f"{other}; leave --page out.", param_hint="--page")
        size = self.per_page or (200 if self.all_pages else 25)
        return [("per_page", str(size)), *([("strict", "1")] if self.strict else [])]

    def begin(self) -> tuple[str, str]:
        """The parameter that the first page is asked for with."""
        return ("after", self.after) if self.after else ("page", str(self.page or 1))


@dataclass(frozen=True, slots=True)
class PrintedAs:
    """How it is printed."""

    form: Annotated[Format | None, typer.Option("--format", help="table (default), json or csv.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False

    def chosen(self) -> Format:
        """Raises typer.BadParameter: two forms are asked for."""
        if self.as_json and self.form not in (None, Format.JSON):
            raise typer.BadParameter("Give --json or --format, not both.", param_hint="--json")
        return Format.JSON if self.as_json else self.form or Format.TABLE


@attempts_app.callback(invoke_without_command=True)
@grouped
def attempts(
    context: typer.Context,
    filters: AttemptFilters,
    pages: PageChoice,
    printed: PrintedAs,
    api: ApiAddress,
) -> None:
    """Search the attempts: by order, endpoint, event type, state, time, a piece of the body, or any filter of the API."""
    if context.invoked_subcommand is not None:
        _refuse_lost_options(context, context.invoked_subcommand)
        return
    params = filters.params() + pages.params()
    form, is_first = printed.chosen(), True
    asked: tuple[str, str] | None = pages.begin()
    with client_for(api.url, api.api_key) as client:
        require_event_type(client, filters.event)
        while asked:
            found = client.call("GET", "attempts", params=[*params, asked])
            _print_page(found, form, is_first=is_first, as_lines=pages.all_pages)
            asked, is_first = _following(found, asked[0]) if pages.all_pages else None, False


def _refuse_lost_options(context: typer.Context, command: str) -> None:
    """Options of the search before a command would have no effect: the command would do more than was meant, or ask another API.

    Raises:
        ApiError: there is one.
    """
    sources = {name: context.get_parameter_source(name) for name in context.params}
    if any(source is not None and source.name == "COMMANDLINE" for source in sources.values()):
        raise ApiCallError(
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


def filters_of(query: Sequence[str], *, is_search: bool = True) -> list[tuple[str, str]]:
    """The parameters of ``--q``: ``order_number_eq=R1``, or with its brackets as in a link.

    A search leaves out a filter without a value, and says so; what is more than a search must not reach further by that.

    Raises:
        ApiError: one is not attribute_predicate=value, or has no value where that matters.
    """
    params = []
    for part in query:
        name, sign, value = part.partition("=")
        if not name.strip() or not sign:
            raise ApiCallError(f"--q {part!r} is not a filter; write attribute_predicate=value, such as --q endpoint_id_eq=7.")
        if not value.strip():
            empty = f"--q {part!r} has no value (is a variable of the shell empty?)"
            if not is_search:
                raise ApiCallError(
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
    params = filters_of(query, is_search=False)
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
def resend(
    attempt_id: Annotated[int, typer.Argument(help="The attempt's id.", parser=id_number)], url: Url = None, api_key: Key = None
) -> None:
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
    text = read_text() if statement == "-" else statement
    with client_for(url, api_key) as client:
        try:
            found = client.call("POST", "sql", json={"statement": text})
        except ApiCallError as error:
            if error.status != 404:
                raise
            message = (
                "That pipeline has a ClickHouse server of its own; ask it directly (clickhouse-client), with the analysts' role of "
                "deploy/clickhouse. `sql` is for ClickHouse in process."
            )
            raise ApiCallError(message) from error
    match form:
        case Format.TABLE:
            out.print(tables.answer(found))
        case Format.JSON:
            out.print_json(data=found)
        case Format.CSV:
            _print_csv([name for name, _ in found["columns"]], found["rows"])


def _print_page(page: Mapping[str, Any], form: Format, *, is_first: bool, as_lines: bool) -> None:
    match form:
        case Format.TABLE:
            out.print(tables.attempts(page))
        case Format.JSON if as_lines:
            sys.stdout.writelines(json.dumps(attempt, ensure_ascii=False) + "\n" for attempt in page["attempts"])
        case Format.JSON:
            out.print_json(data=page)
        case Format.CSV:
            names = list(page["attempts"][0] if page["attempts"] else AttemptAnswer.model_fields)
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
