"""The rules for creating, changing and removing event types while the pipeline runs, without HTTP.

A change that breaks producers or receivers must be requested explicitly. The check is the same as in ``event-types check --against``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pipeline.broker.errors import BrokerError, RefusedError
from pipeline.core.schema_compatibility import SchemaChange, changes
from pipeline.endpoints.event_type_catalogue import StaleEventTypeError
from pipeline.ops.event_types_file import MAX_TYPES, entry_problems, event_type_of
from pipeline.ops.logs import logger
from pipeline.web.errors import ApiError, InvalidError, StartingError, not_found
from pipeline.web.kafka_writes import confirmed_within
from pipeline.web.services import EventTypeServices
from schemas.configured_events import ConfiguredEventType
from schemas.event_type_record import EventTypeRecord

log = logger(__name__)

_MAX_BYTES: Final = 256 * 1024
_MAX_NAMED: Final = 10
MAX_TOPICS: Final = 200
"""Includes the former topics of event types that were removed or moved to another topic."""
_UNCONFIRMED: Final = (
    "Kafka did not confirm the change in time. It may still take effect. List the event types before you try again."
)
_NO_TOPIC_YET: Final = (
    "Kafka did not say in time whether the topic exists, or did not create it in time. No event type was changed. Try again."
)
_OVERTAKEN: Final = (
    "Someone else changed the event type at the same time, so your change was not saved. Read it again, then repeat your change."
)


async def create_event_type(api: EventTypeServices, entry: dict[str, Any], actor: str) -> Sequence[str]:
    """Add an event type, from an entry that `require_new` has checked. Returns notes about its topic.

    Raises:
        ApiError: 409, the name is taken, there are too many, or its topic is missing and cannot be created; 503.
    """
    _require_free(api, entry["name"])
    revision = api.catalogue.next_revision(entry["name"])
    notes = await _provide_topic(api, entry["topic"])
    await _write(api, entry["name"], entry, "create", actor, revision)
    return notes


async def require_new(api: EventTypeServices, entry: dict[str, Any]) -> None:
    """Make sure that an event type can be added.

    Raises:
        InvalidError: the entry cannot be used.
        ApiError: 409, the name is taken, or there are too many; 503, the event types have not been read yet.
    """
    require_event_types(api)
    await _checked(api, entry)
    _require_free(api, entry["name"])


def _require_free(api: EventTypeServices, name: str) -> None:
    require_event_types(api)
    if name in api.catalogue.types.by_name:
        raise ApiError(409, f"The event type {name} already exists. Change it, or choose another name.")
    if len(api.catalogue.types.configured) >= MAX_TYPES:
        raise ApiError(409, f"There are already {MAX_TYPES} added event types, which is the maximum. Remove one first.")


async def update_event_type(
    api: EventTypeServices, name: str, entry: dict[str, Any], actor: str, *, allow_breaking: bool
) -> tuple[Sequence[SchemaChange], Sequence[str]]:
    """Replace the entry of an event type. Returns the changes of its schema, and notes about its topic.

    Raises:
        InvalidError: the entry cannot be used.
        ApiError: 404; 409, it cannot be changed here, the change is breaking and that is not allowed, or its topic is missing and
            cannot be created; 503, Kafka does not answer.
    """
    require_changeable(api, name)
    if entry.setdefault("name", name) != name:
        raise InvalidError({"name": [f"You cannot rename the event type {name}. Add another event type instead."]})
    before, revision = api.catalogue.added(name), api.catalogue.next_revision(name)
    after = await _checked(api, entry)
    found = await asyncio.to_thread(lambda: list(changes([before], [after]))) if before is not None else []
    if (breaking := [one for one in found if one.breaks]) and not allow_breaking:
        reasons = " ".join(f"{one.path or one.event_type}: {one.message}" for one in breaking[:_MAX_NAMED])
        raise ApiError(409, f"The change breaks producers or receivers. {reasons} Give it a new version, or set allow_breaking.")
    of_topic = await _provide_topic(api, entry["topic"])
    await _write(api, name, entry, "update", actor, revision)
    return found, of_topic


async def remove_event_type(api: EventTypeServices, name: str, actor: str) -> None:
    """Remove an event type.

    Raises:
        ApiError: 404; 409, it cannot be changed here, or endpoints subscribe to it; 503, Kafka does not answer.
    """
    require_changeable(api, name)
    if subscribed := [endpoint.id for endpoint in api.registry.all() if name in endpoint.events]:
        ids = ", ".join(map(str, subscribed[:_MAX_NAMED])) + (" and others" if len(subscribed) > _MAX_NAMED else "")
        raise ApiError(409, f"Endpoints subscribe to {name}: {ids}. Remove it from their events first.")
    await _write(api, name, None, "remove", actor, api.catalogue.next_revision(name))


def require_event_types(api: EventTypeServices) -> None:
    """Make sure that all event types and endpoints have been read.

    Raises:
        StartingError: they have not.
    """
    if api.catalogue.table.problem() is not None or api.registry.table.problem() is not None:
        raise StartingError


def require_changeable(api: EventTypeServices, name: str) -> None:
    """Make sure that an event type was added with the API.

    Raises:
        ApiError: 404, it does not exist; 409, it is built in, or in the file.
    """
    require_event_types(api)
    if name in api.catalogue.of_file.by_name:
        where = (
            "comes from the file of event types: change it there" if name in api.catalogue.of_file.configured else "is built in"
        )
        raise ApiError(409, f"{name} {where}. Only event types that were added with the API can be changed here.")
    if api.catalogue.get(name) is None:
        raise not_found()


async def _checked(api: EventTypeServices, entry: dict[str, Any]) -> ConfiguredEventType:
    """The event type of an entry. A large schema takes seconds: meanwhile, other requests are answered."""
    return await asyncio.to_thread(_check, api, entry)


def _check(api: EventTypeServices, entry: dict[str, Any]) -> ConfiguredEventType:
    if len(msgspec.json.encode(entry)) > _MAX_BYTES:
        raise InvalidError(
            {"schema": [f"The event type has more than {_MAX_BYTES:,} bytes. Leave out what its schema does not need."]}
        )
    errors: dict[str, list[str]] = {}
    for field, message in entry_problems(entry, api.catalogue.topics):
        errors.setdefault(field or "event_type", []).append(message)
    if errors:
        raise InvalidError(errors)
    if topic_problem := api.source_topics.name_problem(entry["topic"]):
        raise InvalidError({"topic": [topic_problem]})
    return event_type_of(entry)


async def _provide_topic(api: EventTypeServices, topic: str) -> Sequence[str]:
    """Make sure that an event type's topic exists, before the fan-outs read it. Returns notes about it."""
    catalogue = api.catalogue
    if topic in catalogue.topics:
        return ()
    read = {*catalogue.types.more_topics, *catalogue.types.former_topics}
    if topic not in read and len(read) >= MAX_TOPICS:
        raise ApiError(409, f"There are already {len(read)} added topics, which is the maximum. Use one of these, or oms.orders.")
    try:
        return await api.source_topics.provide(topic, is_read=topic in read)
    except RefusedError as error:
        raise ApiError(409 if error.needs_operator else 503, str(error)) from error
    except (BrokerError, TimeoutError):
        raise ApiError(503, _NO_TOPIC_YET) from None


async def _write(api: EventTypeServices, name: str, entry: dict[str, Any] | None, change: str, actor: str, revision: int) -> None:
    """Write a change. ``revision`` is from when the change was checked: if there is another one since, the answer is 409."""
    now, former = api.clock(), api.catalogue.get(name)
    record = EventTypeRecord(
        name=name,
        entry=entry,
        revision=revision,
        created_at=former.created_at if former is not None else now,
        updated_at=now,
        change=change,
        changed_by=actor,
        former_topics=api.catalogue.former_topics(name, None if entry is None else entry["topic"]),
    )
    async with confirmed_within(api.write_timeout_seconds, _UNCONFIRMED):
        try:
            await api.catalogue.write(api.producer, record)
        except StaleEventTypeError:
            await api.catalogue.settle(api.producer)
            raise ApiError(409, _OVERTAKEN) from None
    log.info("an event type was changed", event_type=name, change=change, changed_by=actor)
