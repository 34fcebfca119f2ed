"""What the command line prints: tables and panels. Everything that comes from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from consumers.embedded import Surroundings
from pipeline.broker.admin import Difference
from pipeline.ops.settings import Settings
from schemas.topics import TopicSpec


def plain(text: str) -> str:
    """Text that rich must not take for markup."""
    return escape(text)


def banner(here: Surroundings, url: str, made_key: str | None) -> RenderableType:
    """What runs, where to look, and what will be gone at exit."""
    lines = [f"[bold]OMS webhooks[/bold] is ready at [link={url}]{url}[/link]"]
    if made_key:
        lines.append(f"API key of this run: [bold]{plain(made_key)}[/bold]")
    if here.broker is not None:
        lines.append(f"Kafka: {plain(here.broker.name)} at {here.settings.kafka_bootstrap_servers}")
        if not here.broker.durable:
            lines.append(
                "[yellow]This is for trying out: events, endpoints and pending repeats live in the memory of the embedded broker and "
                "are gone at exit, and so are the recorded attempts.[/yellow]\n"
                "For a real Kafka set OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS=host:9092 (and OMS_WEBHOOKS_CLICKHOUSE_URL), "
                "or run on a local Apache Kafka with its data on disk: --kafka apache"
            )
    return Panel(Group(*(Text.from_markup(line) for line in lines)), expand=False)


def endpoints(page: Mapping[str, Any]) -> RenderableType:
    """A page of endpoints as a table."""
    table = Table("id", "target_url", "events", "state", "description")
    for endpoint in page["endpoints"]:
        state = "active" if endpoint["active"] else "paused"
        cells = (str(endpoint["id"]), endpoint["target_url"], ", ".join(endpoint["events"]), state, endpoint["description"])
        table.add_row(*map(plain, cells))
    table.caption = f"{page['total_count']} endpoints"
    return table


def created(endpoint: Mapping[str, Any]) -> RenderableType:
    """A registered endpoint, with its secret if it is new."""
    lines = [f"Endpoint {endpoint['id']}: {plain(endpoint['target_url'])}"]
    if secret := endpoint.get("secret"):
        lines.append(f"Signing secret (shown once): [bold]{plain(secret)}[/bold]")
    else:
        lines.append("It was registered already; nothing was changed.")
    return Panel("\n".join(lines), expand=False)


_STATE_STYLES = {"delivered": "green", "repeated": "yellow", "exhausted": "red", "discarded": "magenta"}


def attempts(page: Mapping[str, Any]) -> RenderableType:
    """A page of attempts as a table, and which filters were ignored."""
    table = Table("id", "time", "event", "order / item", "endpoint", "try", "outcome", "code", "ms", "error")
    for attempt in page["attempts"]:
        style = _STATE_STYLES.get(attempt["outcome"], "")
        table.add_row(
            str(attempt["id"]),
            attempt["created_at"],
            plain(attempt["event_name"]),
            plain(str(attempt["order_number"] or attempt["stock_item_id"] or "")),
            f"{attempt['endpoint_id']} {plain(attempt['target_url'])}",
            str(attempt["attempt"]),
            Text(attempt["outcome"], style),
            str(attempt["http_status_code"] or attempt["failure"] or ""),
            f"{attempt['duration_ms']:.0f}",
            plain(attempt["error"] or ""),
        )
    count = f"{page['total_count']:,} attempts" if page["total_count_is_exact"] else f"{page['total_count']:,} attempts or more"
    table.caption = f"page {page['current_page']} of {page['pages']}, {count}" if page["total_count_is_exact"] else count
    if cursor := page.get("next_cursor"):
        table.caption += f"; the next page: --after {cursor}"
    if ignored := page.get("ignored_filters"):
        return Group(Text(f"Ignored filters: {', '.join(ignored)}", "bold yellow"), table)
    return table


def answer(found: Mapping[str, Any]) -> RenderableType:
    """What a SELECT returned."""
    table = Table(
        *(plain(name) for name, _ in found["columns"]), caption=f"{len(found['rows']):,} rows, {found['seconds']:.3f} s"
    )
    for row in found["rows"]:
        table.add_row(*("" if value is None else plain(str(value)) for value in row))
    return table


def topics(
    specs: Sequence[TopicSpec], partitions: int, created: Sequence[str], differences: Sequence[Difference]
) -> RenderableType:
    """Every topic, what it must look like, and where it differs."""
    table = Table("topic", "key", "partitions", "settings", "state")
    for spec in specs:
        wrong = [f"{each.what} is {each.found}" for each in differences if each.topic == spec.name]
        state = "; ".join(wrong) or ("made" if spec.name in created else "as wanted")
        settings = ", ".join(f"{name}={value}" for name, value in spec.config().items())
        count = str(spec.partitions or partitions)
        table.add_row(plain(spec.name), spec.key, count, settings, Text(state, "red" if wrong else "green"))
    return table


def settings(current: Settings) -> RenderableType:
    """Every setting: variable, value, meaning."""
    table = Table("variable", "value", "meaning", show_lines=True)
    for name, value in current.shown().items():
        meaning = type(current).model_fields[name].description or ""
        table.add_row(f"OMS_WEBHOOKS_{name.upper()}", plain(value), plain(meaning))
    return table
