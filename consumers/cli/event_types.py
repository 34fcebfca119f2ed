"""``oms-webhooks event-types``: the event types in the settings, the check of a file, and the event types of a running pipeline."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

import typer
from rich.console import Console
from rich.text import Text

from consumers.cli.api_client import ApiCallError, Key, Url, advice_for_commands, client_for
from consumers.cli.console import Output, Rows, json_text, visible
from consumers.cli.discovery import command_settings
from consumers.cli.known_event_types import ASK, ListedEventTypes, listed, no_pipeline, refuse_lost_options
from consumers.cli.option_values import AsPlainJson, event_type_name
from pipeline.core.counted import counted
from pipeline.core.schema_compatibility import changes
from pipeline.ops.event_types_file import EventTypesFileError, read_entries, read_event_types
from pipeline.ops.settings import Settings
from schemas.configured_events import ConfiguredEventType

out = Output()
err = Console(stderr=True)

_ORIGINS: Final = {"built_in": "OMS webhooks", "file": "the pipeline's file of event types", "api": "the API"}
UNUSABLE: Final = 1
BREAKING: Final = 3

event_types_app = typer.Typer(no_args_is_help=True, help="List, check, add and remove event types.")


@event_types_app.command("list")
def list_event_types(
    context: typer.Context,
    as_json: AsPlainJson = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="List only the event types in the settings. Do not ask a pipeline.")
    ] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Print every event type with its topic and where it comes from: the settings or the running pipeline.

    The exit code is 1 if the pipeline could not be asked. The event types in the settings are printed anyway.
    """
    refuse_lost_options(context, offline=offline)
    settings, pipeline = command_settings(), None
    absent = None if offline else no_pipeline(url)
    problem = absent or ""
    if not offline and absent is None:
        try:
            with client_for(url, api_key) as client:
                pipeline = listed(client)
        except ApiCallError as error:
            problem = str(error)
    rows = listed_rows(settings, pipeline)
    if as_json:
        sys.stdout.write(json_text(rows, out.encoding) + "\n")
    else:
        table = Rows("event type", "version", "topic", "when", "from", folded=("when", "from"), spare=("version",))
        for row in rows:
            cells = (row["name"], row["version"], row["topic"], row["description"], _from(row, settings))
            table.add(*map(str, cells))
        out.print(table)
    if pipeline is not None:
        _print_notes(pipeline)
    elif not offline:
        note = f"These are only the event types in the settings: {problem.rstrip('.')}. {ASK}"
        err.print(Text(note, "yellow"), soft_wrap=True)
        if absent is None:
            raise typer.Exit(UNUSABLE)


def _print_notes(pipeline: ListedEventTypes) -> None:
    for name, at in pipeline.removed.items():
        err.print(visible(f"{name} was removed at {at}. Its attempts can still be searched."), soft_wrap=True)
    for what in pipeline.unusable.values():
        note = f"Added with the API, but the latest version cannot be used: {what}"
        err.print(visible(Text(note, "yellow")), soft_wrap=True)


def listed_rows(settings: Settings, pipeline: ListedEventTypes | None) -> list[dict[str, object]]:
    """The row of each event type: first those in the settings, then those of the pipeline, if one was asked."""
    types, prefix = settings.event_types, settings.topics.prefix
    others = pipeline.by_name if pipeline is not None else {}
    ours = [
        {
            "name": one.name,
            "topic": prefix + one.topic,
            "description": one.description,
            "added": one.name in types.configured,
            "origin": "file" if one.name in types.configured else "built_in",
            "version": types.versions(one.name)[-1],
            "in_settings": True,
            "in_pipeline": one.name in others if pipeline is not None else None,
            "pipeline_origin": others[one.name]["origin"] if one.name in others else None,
        }
        for one in types.by_name.values()
    ]
    theirs = [
        {
            "name": name,
            "topic": prefix + one["topic"],
            "description": one["description"],
            "added": True,
            "origin": one["origin"],
            "version": one["version"],
            "in_settings": False,
            "in_pipeline": True,
            "pipeline_origin": one["origin"],
        }
        for name, one in others.items()
        if name not in types.by_name
    ]
    return [*ours, *theirs]


def _from(row: Mapping[str, object], settings: Settings) -> str:
    if not row["in_settings"]:
        return "the API" if row["origin"] == "api" else "the pipeline's file"
    origin = str(settings.event_types_file) if row["added"] else "OMS webhooks"
    if row["in_pipeline"] is False:
        return f"{origin} (not in the pipeline)"
    return f"{origin} (the pipeline has it from the API)" if row["pipeline_origin"] == "api" else origin


@event_types_app.command("show")
def show_event_type(
    name: Annotated[str, typer.Argument(help="An event type of the running pipeline.", callback=event_type_name)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's JSON.")] = False,
    as_file: Annotated[
        bool, typer.Option("--as-file", help="Print a file of event types (JSON) for `event-types add` or for the settings.")
    ] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Print an event type of the running pipeline, with a sample of its webhook body."""
    if as_json and as_file:
        raise typer.BadParameter("Use --json or --as-file, not both.")
    with client_for(url, api_key) as client:
        found = client.call("GET", f"event_types/{quote(name, safe='')}")
    if as_file and found["entry"] is None:
        err.print(Text(f"{name} is built in and needs no file.", "red"))
        raise typer.Exit(UNUSABLE)
    if as_json or as_file:
        content = {"event_types": [found["entry"]]} if as_file else found
        sys.stdout.write(json_text(content, out.encoding) + "\n")
        return
    shown = found["event_type"]
    versions = ", ".join(str(one["version"]) for one in [*shown["versions"], shown])
    lines = (
        visible(f"{shown['name']}: {shown['description']}").plain,
        f"from:     {_ORIGINS.get(shown['origin'], shown['origin'])}",
        f"topic:    {shown['topic']} (without the prefix)",
        f"versions: {versions}",
        *([f"changed:  {found['updated_at']}"] if found["updated_at"] else []),
        json.dumps(shown["sample"], indent=2, ensure_ascii=False),
    )
    out.print(Text("\n".join(lines)), soft_wrap=True)


@event_types_app.command("add")
def add_event_types(
    file: Annotated[
        Path, typer.Argument(help="File of event types, in the format of OMS_WEBHOOKS_EVENT_TYPES_FILE.", dir_okay=False)
    ],
    allow_breaking: Annotated[
        bool, typer.Option("--allow-breaking", help="Change event types even if that breaks producers or receivers.")
    ] = False,
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Add the event types in a file to a running pipeline, or change event types that were added this way. No restart is needed."""
    try:
        given = list(zip(read_event_types(file), read_entries(file), strict=True))
    except EventTypesFileError as error:
        err.print(Text(str(error), "red"), soft_wrap=True)
        raise typer.Exit(UNUSABLE) from None
    with client_for(url, api_key) as client, advice_for_commands("set allow_breaking", "use --allow-breaking"):
        pipeline = listed(client)
        for event_type, entry in given:
            name = event_type.name
            is_known = name in pipeline.by_name and pipeline.by_name[name]["origin"] == "api"
            path = f"event_types/{name}" if is_known else "event_types"
            # A latest version that cannot be used is replaced, also by the one before it, which is still in use.
            if is_known and name not in pipeline.unusable and _is_same(event_type, client.call("GET", path)["entry"]):
                out.print(Text(f"{name} is unchanged."))
                continue
            wanted = {"event_type": {**entry, "allow_breaking": allow_breaking}}
            written = client.call("PUT" if is_known else "POST", path, json=wanted)
            out.print(Text(f"{name} is {'changed' if is_known else 'added'}."))
            for change in (
                written["changes"] if is_known else written["changes"][1:]
            ):  # the first one only says that the event type is new
                out.print(Text(f"  {change}"), soft_wrap=True)


def _is_same(event_type: ConfiguredEventType, entry: object) -> bool:
    """As JSON, because true and 1 are equal in Python."""
    return json.dumps(event_type.entry()) == json.dumps(entry)


@event_types_app.command("remove")
def remove_event_type(
    name: Annotated[str, typer.Argument(help="An event type that was added to the running pipeline.", callback=event_type_name)],
    url: Url = None,
    api_key: Key = None,
) -> None:
    """Remove an event type that was added to a running pipeline. No endpoint may be subscribed to it."""
    with client_for(url, api_key) as client:
        client.call("DELETE", f"event_types/{quote(name, safe='')}")
    out.print(Text(f"{name} is removed. Events of this type that are still published become dead letters."), soft_wrap=True)


@event_types_app.command("check")
def check_event_types(
    file: Annotated[
        Path | None, typer.Argument(help="The file. Default: the one in OMS_WEBHOOKS_EVENT_TYPES_FILE.", dir_okay=False)
    ] = None,
    against: Annotated[Path | None, typer.Option(help="The current file, to find breaking changes.", dir_okay=False)] = None,
) -> None:
    """Check a file of event types. With --against, also check for breaking changes.

    Exit codes: 0, the file is valid and breaks nothing; 1, a file is not valid; 3, the file breaks producers or receivers.
    """
    file = file or command_settings().event_types_file
    if file is None:
        err.print("There is no file to check. Specify one, or set OMS_WEBHOOKS_EVENT_TYPES_FILE.")
        raise typer.Exit(UNUSABLE)
    try:
        new = read_event_types(file)
        old = read_event_types(against) if against is not None else None
    except EventTypesFileError as error:
        err.print(Text(str(error), "red"), soft_wrap=True)
        raise typer.Exit(UNUSABLE) from None
    names = ", ".join(one.name for one in new) or "none"
    out.print(Text(f"{file} is valid. It adds {names}."), soft_wrap=True)
    if old is None:
        return
    found = list(changes(old, new))
    for one in found:
        place = f"{one.event_type}, {one.path}" if one.path else one.event_type
        word, style = ("breaks", "red") if one.breaks else ("change", "green")
        out.print(Text.assemble("  ", (word, style), f"  {place}: {one.message}"), soft_wrap=True)
    breaking = sum(one.breaks for one in found)
    out.print(f"{counted(len(found), 'change')}, {breaking} of them breaking." if found else "Nothing changed.", highlight=False)
    if breaking:
        raise typer.Exit(BREAKING)
