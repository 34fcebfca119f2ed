"""``oms-webhooks publish``: look at events as the fan-out would, and write them to their source topics."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.text import Text

from consumers.traffic import publish as publish_events
from consumers.traffic import record_key, source_topic
from consumers.whom import reachable
from pipeline.core.event_check import CheckedEvent, check_events
from pipeline.core.event_file import events_in
from pipeline.ops.settings import Settings
from schemas.topics import Topics

out = Console()
err = Console(stderr=True)


def publish(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Events as JSON: one, a list, or one a line; default: standard input.",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only look at them: needs no Kafka, and writes nothing.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="With --check: what is only warned of fails too.")] = False,
) -> None:
    """Check events and publish them to their source topics.

    Every event is checked first, as the fan-out will: when one would become a dead letter, none is published and the exit code is 1.
    It is also compared with what is documented (oms-webhooks schema); what differs is delivered, and warned of.

    oms-webhooks publish --check events.jsonl --strict is made for the tests of a producer.
    """
    settings = Settings()
    content = file.read_bytes() if file else sys.stdin.buffer.read()
    checked = list(check_events(events_in(content), max_bytes=settings.max_event_bytes))
    if not checked:
        err.print("There is no event to publish: the input is empty.")
        raise typer.Exit(1)
    unusable = any(one.event is None for one in checked)
    if check or unusable:
        # stdout is for the answer to --check; otherwise it is for what was published.
        (out if check else err).print(_report(checked, settings.topics), soft_wrap=True, highlight=False)
    if unusable or (check and strict and any(one.problems for one in checked)):
        raise typer.Exit(1)
    if not check:
        for position in uvloop.run(publish_events(reachable(settings, "Publishing to"), [one.source.value for one in checked])):
            out.print(f"Published to {position.topic}, partition {position.partition}, offset {position.offset}.")


def _report(checked: Sequence[CheckedEvent], topics: Topics) -> Text:
    """A line for each event, and one for each problem of it. What comes from the input is text, not markup."""
    lines: list[Text] = []
    for one in checked:
        place = f"{one.source.place}: " if one.source.place else ""
        if one.event is None:
            lines.append(Text(f"{place}would become a dead letter ({one.reason})", "red"))
        else:
            meta = one.event
            topic, key = source_topic(topics, meta.event_name), record_key(meta).decode()
            lines.append(Text(f"{place}{meta.event_name} {meta.id} is a valid event; for {topic}, key {key}"))
        for problem in one.problems:
            word, style = ("error", "red") if problem.is_fatal else ("warning", "yellow")
            where = f"{problem.path}: " if problem.path else ""
            lines.append(Text.assemble("  ", (word, style), f"  {where}{problem.message}"))
    lines.append(Text(_summary(checked)))
    return Text("\n").join(lines)


def _summary(checked: Sequence[CheckedEvent]) -> str:
    unusable = sum(one.event is None for one in checked)
    warned = sum(one.event is not None and bool(one.problems) for one in checked)
    counted = f"{len(checked):,} event{'s' if len(checked) > 1 else ''}"
    if unusable:
        return f"{counted}: {unusable:,} cannot be delivered, {warned:,} with warnings. Nothing was published."
    return f"{counted}: all can be delivered, {warned:,} with warnings."
