"""``oms-webhooks attempts``, ``attempts resend`` and ``sql``: query the running pipeline, and print tables, JSON or CSV."""

from __future__ import annotations

import csv
import difflib
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.core import TyperGroup

from consumers.cli import tables
from consumers.cli.api_client import (
    ApiAddress,
    ApiCallError,
    ApiClient,
    ForeignAnswerError,
    Key,
    Url,
    WrongOptionError,
    client_for,
)
from consumers.cli.confirmation import Yes, confirmed
from consumers.cli.console import Output, json_text
from consumers.cli.discovery import print_notice
from consumers.cli.known_event_types import listed, require_event_type
from consumers.cli.option_groups import grouped
from consumers.cli.option_values import (
    TIMES,
    are_given,
    complete_event_type,
    id_number,
    not_blank,
    refuse_reversed,
    time_value,
)
from consumers.cli.role_process import dashboard_url
from consumers.cli.standard_input import read_text
from pipeline.core.counted import counted
from pipeline.core.search.query_keys import is_filter_key
from pipeline.core.spreadsheet_cells import cell
from pipeline.web.endpoint_names import endpoint_name
from schemas.attempt import AttemptState
from schemas.http.attempts import AttemptAnswer


class SearchGroup(TyperGroup):
    """A group that searches if no command is given. An unknown word is taken for a text to search for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Raises typer.BadParameter if the word is not even similar to a command."""
        word = args[0]
        if not (ctx.resilient_parsing or word.startswith("-") or difflib.get_close_matches(word, self.commands)):
            raise typer.BadParameter(
                f"{word!r} is not a command. Without a command, attempts are searched. Give options: --order, --shipment, --body for any "
                "text, or --q id_eq=… for the id of an attempt."
            )
        return super().resolve_command(ctx, args)


attempts_app = typer.Typer(cls=SearchGroup, help="Search attempts, or resend notifications.")

out = Output()

_POLL_SECONDS = 1.0
"""Time between two checks of a run's progress."""
_SILENT_SECONDS = 60.0
"""How long checks may fail, for example because the API is restarted."""
_REFUSED = frozenset({401, 403, 422})
"""Statuses that another check would get, too. A process that does not know the run yet answers 404."""


class Format(StrEnum):
    """The formats of answers."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class AttemptFilters:
    """The attempts to search for."""

    order: Annotated[str | None, typer.Option(help="Order number.", callback=not_blank)] = None
    shipment: Annotated[list[str] | None, typer.Option(help="Shipment number. Can be repeated.", callback=not_blank)] = None
    subscription: Annotated[str | None, typer.Option(help="Subscription id.", callback=not_blank)] = None
    endpoint: Annotated[int | None, typer.Option(help="Endpoint id.", parser=id_number)] = None
    event: Annotated[str | None, typer.Option(help="Event type.", callback=not_blank, autocompletion=complete_event_type)] = None
    state: Annotated[AttemptState | None, typer.Option(help="Outcome of the attempts.", case_sensitive=False)] = None
    body: Annotated[str | None, typer.Option(help="Text in the request body (not case-sensitive).", callback=not_blank)] = None
    since: Annotated[str | None, typer.Option(help=f"Only attempts at or after this time: {TIMES}.", callback=time_value)] = None
    until: Annotated[
        str | None, typer.Option(help="Only attempts up to this time. A date includes that day.", callback=time_value)
    ] = None
    query: Annotated[
        list[str] | None,
        typer.Option(
            "--q",
            help="Any other filter: attribute_predicate=value (or a sort order: s=created_at asc); see docs/search.md.",
        ),
    ] = None

    def params(self, *, is_strict: bool) -> list[tuple[str, str]]:
        """The filters in the API's format.

        Raises:
            WrongOptionError: ``--q`` is not a filter.
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
        return params + filters_of(self.query or [], is_strict=is_strict)


@dataclass(frozen=True, slots=True)
class PageChoice:
    """How many of the found attempts to print."""

    page: Annotated[int | None, typer.Option(min=1, help="Page number. Default: 1.")] = None
    per_page: Annotated[int | None, typer.Option(min=1, max=200, help="Attempts per page. Default: 25, or 200 with --all.")] = (
        None
    )
    after: Annotated[
        str | None, typer.Option(help="Continue after this cursor from an earlier response.", callback=not_blank)
    ] = None
    all_pages: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Print all pages (json: one attempt per line). If attempts are not sorted by time, new attempts that are recorded "
            "in the meantime may cause duplicates.",
        ),
    ] = False
    strict: Annotated[
        bool, typer.Option(help="Refuse unknown filters and filters without a value. --no-strict: ignore them, and print which.")
    ] = True

    def params(self) -> list[tuple[str, str]]:
        """The options in the API's format, except where to start.

        Raises:
            typer.BadParameter: two options contradict each other.
        """
        if self.page is not None and (self.all_pages or self.after is not None):
            other = "--all prints every page" if self.all_pages else "--after says where to continue"
            raise typer.BadParameter(f"{other}; leave --page out.", param_hint="--page")
        size = self.per_page or (200 if self.all_pages else 25)
        return [("per_page", str(size)), *([("strict", "1")] if self.strict else [])]

    def begin(self) -> tuple[str, str]:
        """The parameter that selects the first page."""
        return ("after", self.after) if self.after else ("page", str(self.page or 1))


@dataclass(frozen=True, slots=True)
class PrintedAs:
    """How to print the answer."""

    form: Annotated[Format | None, typer.Option("--format", help="table (default), json or csv.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False

    def chosen(self) -> Format:
        """Raises typer.BadParameter if two formats are given."""
        if self.as_json and self.form not in (None, Format.JSON):
            raise typer.BadParameter("Use --json or --format, not both.", param_hint="--json")
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
    """Search attempts by order, endpoint, event type, state, time, text in the body, or any filter of the API."""
    if context.invoked_subcommand is not None:
        _refuse_lost_options(context, context.invoked_subcommand)
        return
    params = filters.params(is_strict=pages.strict) + pages.params()
    form, is_first = printed.chosen(), True
    names: Mapping[int, str] | None = None
    asked: tuple[str, str] | None = pages.begin()
    with client_for(api.url, api.api_key) as client:
        require_event_type(client, filters.event)
        while asked:
            found = client.call("GET", "attempts", params=[*params, asked])
            if is_first and filters.endpoint is not None and not found["attempts"]:
                _tell_if_missing(client, filters.endpoint)
            if names is None and form is Format.TABLE and out.is_terminal:
                names = endpoint_names(client)
            _print_page(found, form, names, is_first=is_first, as_lines=pages.all_pages)
            asked, is_first = _following(found, asked[0]) if pages.all_pages else None, False


def _tell_if_missing(client: ApiClient, endpoint_id: int) -> None:
    """After a typo in the id, nothing is found either. The attempts of an endpoint that was deleted are still found."""
    try:
        client.call("GET", f"endpoints/{endpoint_id}")
    except ApiCallError as error:
        if error.status == httpx.codes.NOT_FOUND:
            print_notice(f"There is no endpoint {endpoint_id}. It may have been deleted.")


def _refuse_lost_options(context: typer.Context, command: str) -> None:
    """Refuse search options before a subcommand. They would have no effect, so the command would do too much, or call another API.

    Raises:
        WrongOptionError: there is such an option.
    """
    if are_given(context, *context.params):
        raise WrongOptionError(
            f"Options before {command} belong to the search. Put them after {command}; see `oms-webhooks attempts {command} --help`."
        )


def _tell_of_unknown_names(client: ApiClient, params: Sequence[tuple[str, str]]) -> None:
    """Nothing was found: that may be because of a typo in a name or an id."""
    for name, value in params:
        if name == "q[endpoint_id_eq]" and value.isdecimal():
            _tell_if_missing(client, int(value))
        if name in ("q[event_name_eq]", "q[event_eq]") and value not in listed(client).by_name:
            print_notice(f"There is no event type {value!r}. To list them, run: oms-webhooks event-types list")


def _following(found: Mapping[str, Any], asked_by: str) -> tuple[str, str] | None:
    """The parameter that selects the next page. None at the end. There is a cursor only if attempts are sorted by time."""
    if found["next_cursor"]:
        return "after", found["next_cursor"]
    if asked_by == "after" or not found["attempts"]:
        return None
    # A count that is not exact is a lower bound.
    has_more = found["current_page"] < found["pages"] or not found["total_count_is_exact"]
    return ("page", str(found["current_page"] + 1)) if has_more else None


def filters_of(query: Sequence[str], *, is_search: bool = True, is_strict: bool = False) -> list[tuple[str, str]]:
    """The parameters of ``--q``: ``order_number_eq=R1``, or with brackets as in a link.

    A search ignores a filter without a value, and says so, unless it ``is_strict``. A command that sends must refuse it: it would send more
    than was meant.

    Raises:
        WrongOptionError: a filter is not attribute_predicate=value, or has no value although it needs one.
    """
    params = []
    for part in query:
        name, sign, value = part.partition("=")
        if not name.strip() or not sign:
            raise WrongOptionError(f"--q {part!r} is not a filter. Use attribute_predicate=value, such as --q endpoint_id_eq=7.")
        if not value.strip():
            empty = f"--q {part!r} has no value (is a shell variable empty?)"
            if not is_search:
                raise WrongOptionError(
                    f"{empty}. Without this filter, more would be resent than you want. Give it a value, or leave it out."
                )
            if is_strict:
                raise WrongOptionError(f"{empty}. Give it a value, or leave it out.")
            sys.stderr.write(f"{empty}. It is ignored.\n")
        params.append((name if is_filter_key(name) else f"q[{name}]", value))
    return params


@attempts_app.command("resend-failed")
def resend_failed(
    query: Annotated[
        list[str],
        typer.Option(
            "--q", help="A filter: attribute_predicate=value, such as endpoint_id_eq=7. Can be repeated. See docs/search.md."
        ),
    ],
    yes: Yes = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Resend all failed notifications of a search, each once. Prints the number, asks for confirmation, and shows the progress.

    Ctrl-C stops the progress display, not the run. To cancel the run, use its page in the dashboard, or POST resends/ID/cancel.
    """
    params = filters_of(query, is_search=False)
    with client_for(url, api_key) as client:
        found = client.call("GET", "resends/preview", params=[*params, ("strict", "1")])
        failed = counted(found["attempts"], "failed attempt")
        question = f"Resend {counted(found['notifications'], 'notification')} ({failed})?"
        if not found["notifications"]:
            out.print("No failed notification matches that has not been delivered since. Nothing was sent.", soft_wrap=True)
            _tell_of_unknown_names(client, params)
            return
        if not confirmed(question, yes=yes):
            out.print("Nothing was sent.")
            return
        run = client.call("POST", "resends", params=params)
        print_notice(f"Run {run['id']} has started. It continues in the API even if this command ends.")
        run = _followed(client, run)
    delivered = counted(run["delivered"], "was", "were")
    summary = f"Run {run['id']}: {run['state']}. {run['resent']:,} of {run['total']:,} resent, {delivered} already delivered, "
    out.print(
        f"{summary}{run['skipped']:,} could not be resent. {run['problem']}".rstrip(),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if run["state"] != "done":
        raise typer.Exit(1)


def _followed(client: ApiClient, run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Show the progress of a run until it is over. Returns its last state.

    Raises:
        ApiCallError: the API refuses to tell the progress, or has not told it for a minute. That does not end the run.
    """
    columns = (TextColumn("resending"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("notifications", total=run["total"])
        heard_at = time.monotonic()
        while run["state"] in ("running", "cancelling"):
            time.sleep(_POLL_SECONDS)
            try:
                run = client.call("GET", f"resends/{run['id']}")
            except ApiCallError as error:
                if error.status in _REFUSED or time.monotonic() - heard_at > _SILENT_SECONDS:
                    page = f"{dashboard_url(client.root)}/resends/{run['id']}"
                    message = f"{error}\nThe run continues unless its process has ended. To see its progress: {page}"
                    raise ApiCallError(message, error.status) from error
                continue
            heard_at = time.monotonic()
            progress.update(task, completed=run["resent"] + run["delivered"] + run["skipped"])
    return run


@attempts_app.command("resend")
def resend(
    attempt_id: Annotated[int, typer.Argument(help="The attempt's id.", parser=id_number)], url: Url = None, api_key: Key = None
) -> None:
    """Resend a notification: the same body and webhook-id, with the current settings of the endpoint."""
    with client_for(url, api_key) as client:
        queued = client.call("POST", f"attempts/{attempt_id}/resend")
    out.print(
        f"Event {queued['event_id']} is queued for endpoint {queued['endpoint_id']}, {queued['target_url']}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@grouped
def sql(
    statement: Annotated[str, typer.Argument(help="One SELECT statement. -: read it from standard input.")],
    printed: PrintedAs,
    api: ApiAddress,
) -> None:
    """Query the ClickHouse of an embedded pipeline, read-only. Start with: SELECT * FROM attempt_history LIMIT 5."""
    form, text = printed.chosen(), read_text() if statement == "-" else statement
    if not text.strip():
        raise typer.BadParameter("The statement is empty. Is a shell variable empty?", param_hint="STATEMENT")
    with client_for(api.url, api.api_key) as client:
        try:
            found = client.call("POST", "sql", json={"statement": text})
        except ApiCallError as error:
            if error.status != 404 or isinstance(error, ForeignAnswerError):
                raise
            message = (
                "This pipeline uses a ClickHouse server. Query the server directly (clickhouse-client), with the role for analysts in "
                "deploy/clickhouse. `sql` only works with the embedded ClickHouse."
            )
            raise ApiCallError(message) from error
    match form:
        case Format.TABLE:
            out.print(tables.answer(found))
        case Format.JSON:
            out.print_data(found)
        case Format.CSV:
            _print_csv([name for name, _ in found["columns"]], found["rows"])


def endpoint_names(client: ApiClient) -> Mapping[int, str]:
    """What people call the endpoints: the first 200. Any others are shown by their URL."""
    found = client.call("GET", "endpoints", params=[("per_page", "200")])["endpoints"]
    return {one["id"]: endpoint_name(one["description"], one["target_url"]) for one in found}


def _print_page(
    page: Mapping[str, Any], form: Format, endpoints: Mapping[int, str] | None, *, is_first: bool, as_lines: bool
) -> None:
    match form:
        case Format.TABLE:
            out.print(tables.attempts(page, endpoints))
        case Format.JSON if as_lines:
            sys.stdout.writelines(json_text(attempt, out.encoding, indent=None) + "\n" for attempt in page["attempts"])
        case Format.JSON:
            out.print_data(page)
        case Format.CSV:
            names = list(page["attempts"][0] if page["attempts"] else AttemptAnswer.model_fields)
            rows = ([attempt[name] for name in names] for attempt in page["attempts"])
            _print_csv(names if is_first else [], rows)
    if form is not Format.TABLE and is_first and (ignored := page["ignored_filters"]):
        sys.stderr.write(f"Ignored filters: {'; '.join(ignored)}\n")


def _print_csv(names: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """CSV with an optional header. Text that a spreadsheet would read as a formula gets a leading apostrophe."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if names:
        writer.writerow(names)
    writer.writerows(map(cell, row) for row in rows)
