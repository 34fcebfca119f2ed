"""The tables and panels of the command line. External text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from consumers.cli.attempt_table import AttemptRows
from consumers.cli.console import Rows, escape_markup, visible
from consumers.cli.embedded import EmbeddedServices
from consumers.cli.role_process import dashboard_url
from pipeline.broker.topic_admin import Difference, Growth
from pipeline.core.counted import counted
from pipeline.ops.reachability import CheckResult
from pipeline.ops.settings import Settings
from schemas.topics import TopicSpec


def banner(here: EmbeddedServices, url: str, created_key: str | None) -> RenderableType:
    """What runs, where to look, and what will be lost at exit."""
    dashboard = dashboard_url(url)
    lines = [
        f"[bold]OMS webhooks[/bold] is ready at [link={url}]{url}[/link]",
        f"Dashboard: [link={dashboard}]{dashboard}[/link]" + (" (log in with the key below)" if created_key else ""),
    ]
    if created_key:
        lines.append(f"API key for this run: [bold]{escape_markup(created_key)}[/bold]")
    if here.broker is not None:
        lines.append(f"Kafka: {escape_markup(here.broker.name)} at {here.settings.kafka_bootstrap_servers}")
        if not here.broker.durable:
            lines.append(
                "[yellow]For trying out only. Events, endpoints, pending retries and recorded attempts are kept in memory and are lost at "
                "exit.[/yellow]\n"
                "To use a real Kafka, set OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS=host:9092, OMS_WEBHOOKS_ENCRYPTION_KEY (make one: oms-webhooks "
                "new-key) and OMS_WEBHOOKS_CLICKHOUSE_URL. "
                "To run a local Apache Kafka with its data on disk, use --kafka apache."
            )
    elif not here.settings.has_lasting_store:
        lines.append(
            "[yellow]Recorded attempts are kept in a temporary directory and are lost at exit.[/yellow] Set OMS_WEBHOOKS_CLICKHOUSE_URL or "
            "OMS_WEBHOOKS_CLICKHOUSE_PATH."
        )
    return Panel(Group(*(Text.from_markup(line) for line in lines)), expand=False)


def endpoints(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Endpoints as a table."""
    headings = ("id", "target_url", "events", "state", "held", "description")
    rows = Rows(*headings, folded=("target_url", "events", "description"), spare=("held", "events"))
    for endpoint in found:
        cells = (
            str(endpoint["id"]),
            endpoint["target_url"],
            ", ".join(endpoint["events"]),
            "unusable" if endpoint.get("problem") else endpoint["state"],
            f"{endpoint.get('held_count', 0):,}",
            endpoint["description"],
        )
        rows.add(*cells)
    rows.caption = _counted(len(found), "endpoint")
    return rows


def endpoint(found: Mapping[str, Any]) -> RenderableType:
    """One endpoint."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name in ("id", "target_url", "description", "state", "disabled_reason", "circuit", "failing_since", "max_per_second"):
        if found[name] is not None:
            table.add_row(name, Text(str(found[name])))
    table.add_row("events", Text(", ".join(found["events"])))
    if pins := found.get("event_type_versions"):  # a server of an earlier release has none
        table.add_row("versions", Text(", ".join(f"{name}: only version {version}" for name, version in pins.items())))
    if found["filters"]:
        table.add_row("filters", Text("\n".join(found["filters"])))
    if end := found.get("will_be_disabled_at"):
        table.add_row("will be disabled", Text(f"{end}, if nothing succeeds by then", "yellow"))
    if words := found.get("retry_words"):  # a server of an earlier release has none
        table.add_row("retries", Text(f"{found['retry_policy']}: {words}"))
    if (verification := found.get("verification", "none")) != "none":
        description = (
            f"verified at {found['verified_at']}"
            if found["verified_at"]
            else f"not verified. {found['verification_problem'] or ''}"
        )
        table.add_row("verification", Text(f"{verification}: {description}"))
    if failure := found["filter_failure"]:
        description = (
            f"{failure['expression']}: {failure['reason']} Events: {failure['count']:,}, the last one {failure['event_id']}."
        )
        table.add_row("a filter failed", visible(Text(description, "yellow")))
    if (authentication := found.get("authentication") or {"type": "none"})["type"] != "none":
        shown = [f"{name} {value}" for name, value in authentication.items() if name != "type" and value]
        table.add_row("authentication", Text(", ".join([authentication["type"], *shown])))
    table.add_row("held", Text(f"{found['held_count']:,}" + (f" since {found['held_since']}" if found["held_since"] else "")))
    _add_order(table, found)
    table.add_row("changed", Text(f"{found['updated_at']} (version {found['version']})"))
    return table


def _add_order(table: Table, found: Mapping[str, Any]) -> None:
    if found.get("ordered"):  # a server of an earlier release has none
        table.add_row("order", Text("events of one key, one at a time"))
    if held := found.get("in_order"):
        waiting = f"{counted(held['waiting'], 'delivery', 'deliveries')} of {counted(held['keys'], 'key')}"
        description = f"{waiting}, behind event {held['event_id']} ({held['reason']}) since {held['since']}"
        table.add_row("waits in order", Text(description, "yellow"))


def created(endpoint: Mapping[str, Any]) -> RenderableType:
    """A registered endpoint, with its secret if it is new."""
    lines = [f"Endpoint {endpoint['id']}: {escape_markup(endpoint['target_url'])}"]
    if secret := endpoint.get("secret"):
        lines.append(f"Signing secret (shown once): [bold]{escape_markup(secret)}[/bold]")
        if endpoint.get("state") == "unverified":
            lines.append(
                f"It is not verified yet, and receives nothing until it is. {escape_markup(endpoint['verification_problem'] or '')}"
            )
    else:
        lines.append("This URL was already registered. Nothing was changed.")
    return Panel("\n".join(lines), expand=False)


def rotated(endpoint: Mapping[str, Any], overlap_hours: int) -> RenderableType:
    """An endpoint's new secret."""
    lines = [
        f"Endpoint {endpoint['id']}: {escape_markup(endpoint['target_url'])}",
        f"New signing secret (shown once): [bold]{escape_markup(endpoint['secret'])}[/bold]",
        f"For {counted(overlap_hours, 'hour')}, requests are signed with both the old and the new secret."
        if overlap_hours
        else "The old one is no longer valid.",
    ]
    return Panel("\n".join(lines), expand=False)


def tested(attempt: Mapping[str, Any]) -> RenderableType:
    """The result of a test delivery."""
    succeeded = attempt["state"] == "succeeded"
    outcome = Text("acknowledged" if succeeded else "not acknowledged", "bold green" if succeeded else "bold red")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("event", Text(f"{attempt['event_name']} ({attempt['event_id']})"))
    table.add_row("endpoint", Text(f"{attempt['endpoint_id']} {attempt['target_url']}"))
    table.add_row("outcome", outcome)
    table.add_row("response", Text(f"{attempt['http_status_code'] or attempt['failure']} in {attempt['duration_ms']:.0f} ms"))
    if attempt["error"]:
        table.add_row("error", visible(attempt["error"]))
    return table


def preview(found: Mapping[str, Any]) -> RenderableType:
    """How many events an endpoint would have received, with examples."""
    lines: list[RenderableType] = [Text(found["sentence"], "bold")]
    for failure in found["failures"]:
        description = (
            f"{failure['expression']}: {failure['reason']} Events: {failure['count']:,}, the newest {failure['event_id']}."
        )
        lines.append(visible(Text(f"A filter failed. {description}", "yellow")))
    for title, events in (
        ("It would have received, for example:", found["would"]),
        ("It would not have received, for example:", found["would_not"]),
    ):
        if events:
            lines.append(Text(title))
        lines += [
            visible(f"  {event['received_at']}  {event['event_name']}  {event['order_number'] or '-'}  {event['id']}")
            for event in events
        ]
    return Group(*lines)


def dead_letters(page: Mapping[str, Any]) -> RenderableType:
    """A page of dead letters as a table."""
    headings = ("id", "time", "reason", "repair", "where", "bytes", "detail")
    rows = Rows(*headings, folded=("detail",), spare=("bytes", "where"))
    for letter in page["dead_letters"]:
        where = f"{letter['topic']} {letter['partition']}/{letter['offset']}"
        repair = ("dismissed" if letter["dismissed"] else "published again") if letter.get("repaired_at") else ""
        size = f"{letter['size']:,}"
        rows.add(str(letter["id"]), letter["failed_at"], letter["reason"], repair, where, size, letter["detail"])
    rows.caption = _page(page, _counted(page["total_count"], "dead letter"))
    return rows


def _counted(number: int, name: str) -> str:
    """``no attempts``, ``1 attempt``, ``2 attempts``."""
    return counted(number, name) if number else f"no {name}s"


def _page(page: Mapping[str, Any], count: str) -> str:
    number, last = page["current_page"], page["pages"]
    if number > last > 0:
        return f"there is no page {number:,} (the last page is {last:,}), {count}"
    return f"page {number:,} of {last:,}, {count}" if page["total_count"] else count


def keys(found: Mapping[str, Any]) -> RenderableType:
    """The API keys as a table."""
    headings = ("id", "name", "owner", "role", "last used", "created", "by")
    none = "" if found["keys"] else "no keys yet (create one: oms-webhooks keys create); "
    rows = Rows(*headings, spare=("by", "created", "last used"), caption=f"{none}keys in OMS_WEBHOOKS_API_KEYS are not listed")
    for key in found["keys"]:
        used = key.get("last_used_at") or "never"
        rows.add(key["id"], key["name"], key.get("owner", ""), key["role"], used, key["created_at"], key["created_by"])
    return rows


def created_key(key: Mapping[str, Any]) -> RenderableType:
    """A new API key."""
    lines = (
        f"Key {escape_markup(key['id'])} of {escape_markup(key['name'])}, role {escape_markup(key['role'])}",
        f"API key (shown once): [bold]{escape_markup(key['key'])}[/bold]",
    )
    return Panel("\n".join(lines), expand=False)


def attempts(page: Mapping[str, Any], names: Mapping[int, str] | None = None) -> RenderableType:
    """A page of attempts as a table, and the filters that were ignored. ``names`` are those of endpoints, for a terminal."""
    rows = AttemptRows(page["attempts"], names or {})
    count = _counted(page["total_count"], "attempt")
    rows.caption = _page(page, count) if page["total_count_is_exact"] else f"{count} or more"
    if since := page.get("sorted_since"):
        rows.caption += f"; sorted: the newest {page['total_count']:,} matches, back to {since}; older attempts were not searched"
    if cursor := page.get("next_cursor"):
        rows.caption += f"; the next page: --after {cursor}"
    if ignored := page.get("ignored_filters"):
        return Group(Text(f"Ignored filters: {', '.join(ignored)}", "bold yellow"), rows)
    return rows


_LONGEST_ID: Final = 40
"""Longer values are texts, and may wrap."""


def answer(found: Mapping[str, Any]) -> RenderableType:
    """The result of a SELECT."""
    names = [name for name, _ in found["columns"]]
    cells = [["" if value is None else str(value) for value in row] for row in found["rows"]]
    long = {name for row in cells for name, cell in zip(names, row, strict=True) if len(cell) > _LONGEST_ID}
    rows = Rows(*names, folded=long, caption=f"{_counted(len(cells), 'row')}, {found['seconds']:.3f} s")
    for row in cells:
        rows.add(*row)
    return rows


def topics(
    specs: Sequence[TopicSpec], partitions: int, created: Sequence[str], differences: Sequence[Difference]
) -> RenderableType:
    """Every topic, its required configuration, and the differences."""
    rows = Rows("topic", "key", "partitions", "settings", "state", folded=("settings", "state"))
    for spec in specs:
        wrong = [f"{each.what} is {each.found}" for each in differences if each.topic == spec.name]
        state = "; ".join(wrong) or ("created" if spec.name in created else "as required")
        settings = ", ".join(f"{name}={value}" for name, value in spec.config().items())
        count = str(spec.partitions or partitions)
        rows.add(spec.name, spec.key, count, settings, Text(state, "red" if wrong else "green"))
    return rows


MORE_PARTITIONS = """\
Kafka cannot remove partitions.
A key (order number, stock item id) may move to another partition. Records stay in order within a partition. Two events of one order, \
one published before the change and one after it, may be delivered at the same time or in the wrong order. Webhooks do not promise an \
order; receivers can sort by created_at.
Nothing is lost. Clients notice new partitions within kafka_metadata_max_age_ms and read them from their beginning. Until then, records \
in them wait. Producers notice new partitions according to their own metadata.max.age.ms.
Waiting retries stay where they are. Each new partition of a delay topic has its own order of due times.
Afterwards set kafka_partitions to the new number in all roles. For one process per partition, also raise KEDA's maxReplicaCount."""


def growth(planned: Sequence[Growth]) -> RenderableType:
    """The topics that get more partitions, how many, and the effects."""
    rows = Rows("topic", "partitions", "then")
    for each in planned:
        rows.add(each.topic, str(each.before), str(each.after))
    return Group(rows, Text(MORE_PARTITIONS))


def settings(current: Settings) -> RenderableType:
    """Every setting: variable, value, meaning."""
    rows = Rows("variable", "value", "meaning", folded=("value", "meaning"), has_lines=True)
    for name, value in current.shown().items():
        meaning = type(current).model_fields[name].description or ""
        rows.add(f"OMS_WEBHOOKS_{name.upper()}", value, meaning)
    return rows


def findings(found: Sequence[CheckResult]) -> RenderableType:
    """The findings of a check, and the problem of each."""
    rows = Rows("check", "result", folded=("result",))
    for finding in found:
        rows.add(finding.what, Text(finding.problem or "OK", "red" if finding.problem else "green"))
    return rows
