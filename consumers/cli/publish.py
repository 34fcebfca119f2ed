"""``oms-webhooks publish``: check events as the fan-out does, and write them to their source topics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.text import Text

from consumers.cli.api_client import ApiCallError, Key, Url
from consumers.cli.discovery import NoPipelineError, command_settings, print_notice, reachable
from consumers.cli.known_event_types import ASK, no_pipeline, types_of_pipeline, with_types_on_kafka
from consumers.cli.option_values import are_given
from consumers.cli.standard_input import read_bytes
from consumers.cli.traffic import publish as publish_events
from consumers.cli.traffic import record_key
from pipeline.core.counted import counted
from pipeline.core.event_check import CheckedEvent, check_events
from pipeline.core.event_file import events_in
from pipeline.ops.settings import Settings
from schemas.delivery import DeadLetterReason
from schemas.event_reader import EventReader

out = Console()
err = Console(stderr=True)


def publish(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="File of events as JSON: one event, a list, or one per line. Default: standard input.",
            exists=True,
            dir_okay=False,
            readable=True,
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the events. Needs no Kafka, and writes nothing.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="With --check: treat warnings as errors.")] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Check events and publish them to their source topics.

    Every event is checked first, as the fan-out does. If one would become a dead letter, none is published and the exit code is 1.
    Every event is also compared with its schema (oms-webhooks schema). A difference is only a warning: the event is still delivered.

    Use oms-webhooks publish --check events.jsonl --strict in the tests of a producer.

    Event types may also have been added with the API. To find them, --check asks the API (--url), and publishing reads Kafka.
    """
    if not check:
        _refuse_options_of_check(context, strict=strict)
    settings = command_settings()
    content = file.read_bytes() if file else read_bytes()
    checked, hint, is_reached = _checked(content, settings), "", False
    if not checked:
        err.print("The input is empty. There is no event to publish.")
        raise typer.Exit(1)
    if any(one.reason == DeadLetterReason.UNKNOWN_EVENT for one in checked):
        settings, hint = _knowing_more(settings, url, api_key) if check else _knowing_what_kafka_knows(settings)
        is_reached = not check and bool(settings.kafka_bootstrap_servers)
        checked = _checked(content, settings)
    unusable = any(one.event is None for one in checked)
    if check or unusable:
        # With --check, stdout holds the findings; otherwise it lists what was published.
        (out if check else err).print(_report(checked, settings.event_reader), soft_wrap=True, highlight=False)
        if hint and any(one.reason == DeadLetterReason.UNKNOWN_EVENT for one in checked):
            err.print(Text(hint, "yellow"), soft_wrap=True, highlight=False)
    if unusable or (check and strict and any(one.problems for one in checked)):
        raise typer.Exit(1)
    if not check:
        # Kafka is not looked for twice: the user would be asked again, and might choose another.
        _publish(settings if is_reached else reachable(settings, "Publishing to"), checked)


def _refuse_options_of_check(context: typer.Context, *, strict: bool) -> None:
    if are_given(context, "url", "api_key"):
        raise typer.BadParameter("--url and --api-key need --check. Publishing reads added event types from Kafka.")
    if strict:
        raise typer.BadParameter("It needs --check. Without it, events with warnings are published.", param_hint="--strict")


def _publish(settings: Settings, checked: Sequence[CheckedEvent]) -> None:
    try:
        positions = uvloop.run(publish_events(settings, [one.source.value for one in checked]))
    except KeyboardInterrupt:
        print_notice(f"Interrupted. Some or all of {counted(len(checked), 'event')} may have been published.")
        raise
    for position in positions:
        out.print(f"Published to {position.topic}, partition {position.partition}, offset {position.offset}.")


def _checked(content: bytes, settings: Settings) -> list[CheckedEvent]:
    return list(check_events(events_in(content), max_bytes=settings.max_event_bytes, reader=settings.event_reader))


def _knowing_more(settings: Settings, url: str | None, api_key: str | None) -> tuple[Settings, str]:
    """The settings plus the event types that the pipeline's API lists, and a hint for names that are still unknown."""
    if (problem := no_pipeline(url)) is not None:
        return settings, f"Only the event types in the settings are known: {problem}. {ASK}"
    try:
        types = types_of_pipeline(settings, url, api_key)
    except ApiCallError as error:
        return (
            settings,
            f"Only the event types in the settings are known, because the pipeline could not be asked for others. {error}",
        )
    return settings.knowing(types), "The pipeline does not have this event type either."


def _knowing_what_kafka_knows(settings: Settings) -> tuple[Settings, str]:
    """The same, but with the event types in the Kafka that the events are published to."""
    try:
        known, problem = with_types_on_kafka(reachable(settings, "Publishing to"))
    except NoPipelineError as error:
        return settings, f"Only the event types in the settings are known: {error} {ASK}"
    if problem:
        return settings, f"Only the event types in the settings are known: others could not be read from Kafka ({problem}). {ASK}"
    return known, "It was not added with the API either."


def _report(checked: Sequence[CheckedEvent], events: EventReader) -> Text:
    """One line for each event, and one for each of its problems. Input is printed as text, not as markup."""
    lines: list[Text] = []
    for one in checked:
        place = f"{one.source.place}: " if one.source.place else ""
        if one.event is None:
            lines.append(Text(f"{place}would become a dead letter ({one.reason})", "red"))
        else:
            meta = one.event
            topic, key = events.topic_of(meta.event_name), record_key(meta).decode()
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
    events = counted(len(checked), "event")
    if unusable:
        return f"{events}: {unusable:,} cannot be delivered, {warned:,} with warnings. Nothing was published."
    return f"{events}: {'it' if len(checked) == 1 else 'all'} can be delivered, {warned:,} with warnings."
