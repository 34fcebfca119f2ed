"""The event types that a command knows: those in the settings, and those that were added to the running pipeline.

The settings take precedence, as they do in the pipeline. Most commands ask the API. Commands that write to Kafka read the topic of
the event types there instead, because that is what the pipeline of that Kafka knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import typer
import uvloop

from consumers.cli.api_client import ApiClient, client_for
from consumers.cli.discovery import print_notice
from consumers.cli.option_values import are_given
from consumers.cli.runtime_files import find_notes
from pipeline.broker.errors import BrokerError, NoSessionError
from pipeline.broker.factory import open_broker
from pipeline.endpoints.event_type_catalogue import EventTypeCatalogue
from pipeline.ops.event_types_file import entry_problems, event_type_of
from pipeline.ops.settings import Settings
from schemas.configured_events import ConfiguredEventType
from schemas.event_types import EventTypes

ASK: Final = "To list event types that were added with the API, run: oms-webhooks event-types list --url URL --api-key KEY"
"""What to do about an unknown name when no pipeline was asked."""
_TABLE_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class ListedEventTypes:
    """What the API says about event types: those in use by name, those removed, and those that cannot be used."""

    by_name: Mapping[str, Mapping[str, Any]]
    removed: Mapping[str, str] = field(default_factory=dict)
    """When each event type was removed."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """The problem of each event type."""


def refuse_lost_options(context: typer.Context, *, offline: bool) -> None:
    """Refuse --url and --api-key of a command that asks no pipeline.

    Raises:
        typer.BadParameter: one of them is given.
    """
    if offline and are_given(context, "url", "api_key"):
        raise typer.BadParameter(
            "With --offline, no pipeline is asked. Leave out --url and --api-key, or --offline.", param_hint="--offline"
        )


def listed(client: ApiClient) -> ListedEventTypes:
    """The event types of the pipeline.

    Raises:
        ApiCallError: the API did not answer the question.
    """
    answer = client.call("GET", "event_types")
    return ListedEventTypes(
        {one["name"]: one for one in answer["event_types"]},
        {one["name"]: one["removed_at"] for one in answer.get("removed_event_types", ())},
        {one["name"]: one["problem"] for one in answer.get("unusable_event_types", ())},
    )


def no_pipeline(url: str | None) -> str | None:
    """Why no API can be asked, for a command that works without one. None: an API was found."""
    found = 1 if url else len(find_notes())
    if found == 1:
        return None
    return (
        "several pipelines are running on this machine"
        if found
        else "no pipeline was specified, and none is running on this machine"
    )


def types_of_pipeline(settings: Settings, url: str | None, api_key: str | None) -> EventTypes:
    """The event types of the settings, plus those that the pipeline's API lists.

    Raises:
        ApiCallError: the API did not answer the question.
    """
    known = settings.event_types
    with client_for(url, api_key) as client:
        names = [
            name for name, one in listed(client).by_name.items() if one["origin"] != "built_in" and name not in known.by_name
        ]
        made = [_made(name, client.call("GET", f"event_types/{quote(name, safe='')}")["entry"]) for name in names]
    return EventTypes([*known.configured.values(), *(one for one in made if one is not None)])


def _made(name: str, entry: Any) -> ConfiguredEventType | None:
    topic = entry.get("topic") if isinstance(entry, dict) else None
    if entry_problems(entry, (str(topic),)):
        print_notice(f"The pipeline's event type {name} is left out, because this release cannot read it.")
        return None
    return event_type_of(entry)


async def types_on_kafka(settings: Settings) -> EventTypes:
    """The event types of the settings, plus those in the topic of the event types.

    Raises:
        BrokerError: Kafka does not answer, or refuses access.
        TimeoutError: not all event types could be read in time.
    """
    broker, topic = open_broker(settings), settings.topics.event_types

    def topics() -> list[str]:
        with broker.admin() as admin:
            return admin.names()

    if topic not in await asyncio.to_thread(topics):
        return settings.event_types
    catalogue = EventTypeCatalogue(broker, topic, settings.event_types)
    try:
        async with asyncio.timeout(_TABLE_SECONDS):
            await catalogue.table.start()
        return catalogue.types
    finally:
        with suppress(BrokerError):
            await catalogue.table.stop()


def with_types_on_kafka(settings: Settings) -> tuple[Settings, str]:
    """The settings, plus the event types in the topic, and why these could not be read ("" if they were).

    Raises:
        NoSessionError: there is no session with Kafka, so nothing else of it can be used either.
    """
    try:
        return settings.knowing(uvloop.run(types_on_kafka(settings))), ""
    except NoSessionError:
        raise
    except (BrokerError, TimeoutError) as error:
        return settings, str(error) or "Kafka did not respond in time"


def require_event_type(client: ApiClient, name: str | None) -> None:
    """Check that the value of --event is, or was, an event type in the settings or of the pipeline.

    Raises:
        typer.BadParameter: there is no such event type.
        ApiCallError: the pipeline did not answer the question.
    """
    if name is None or name in Settings().event_types.by_name:
        return
    known = listed(client)
    if name in known.by_name or name in known.removed or name in known.unusable:
        return
    message = (
        f"{name!r} is not one of {', '.join(map(repr, known.by_name))}, the event types of this pipeline (including those "
        f"added with the API). To find attempts of one that is no longer in the file of event types, use --q event_name_eq={name}."
    )
    raise typer.BadParameter(message, param_hint="--event")
