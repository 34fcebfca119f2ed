"""The current event types of a deployment: the built-in ones, those of its file, and those that were added with the API.

Those of the API are read from the compacted topic ``webhooks.event-types``, continuously from its beginning. If two processes
change an event type at once, all processes decide alike: the change that is first in the topic counts. Unusable records are
logged and left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from pipeline.broker.api import Broker, Record
from pipeline.broker.producer import Producer
from pipeline.broker.table import CompactedTable
from pipeline.ops import metrics
from pipeline.ops.event_types_file import MAX_TYPES, added_topic_problem, entry_problems, event_type_of
from pipeline.ops.logs import logger
from schemas.codec import InvalidRecordError, from_json, to_json
from schemas.configured_events import ConfiguredEventType
from schemas.event_type_record import EventTypeRecord
from schemas.event_types import SOURCE_TOPICS, EventTypes

log = logger(__name__)

_MAX_SHOWN: Final = 3


class StaleEventTypeError(Exception):
    """A change that took no effect: another change of the same event type precedes it in the topic."""


class EventTypeCatalogue:
    """Used from the event loop only. Only entries are checked on the thread of the table: a large schema takes seconds."""

    def __init__(self, broker: Broker, topic: str, of_file: EventTypes) -> None:
        """``of_file``: the built-in event types and those of the file. They take precedence over others of the same name."""
        self.table = CompactedTable(broker, topic, self._apply, self._prepare)
        self._prepared: dict[int, ConfiguredEventType | Exception] = {}
        """What the check of an entry found, by the offset of the record, until the record is applied."""
        self.of_file = of_file
        self.types = of_file
        self.topics: tuple[str, ...] = (*SOURCE_TOPICS, *of_file.more_topics)
        """Topics that fan-outs read anyway, without the prefix."""
        self._topic = topic
        self._records: dict[str, EventTypeRecord] = {}
        """The last effective record of each event type, including removed ones: a late change must not bring one back."""
        self._added: dict[str, ConfiguredEventType] = {}
        self._stale: dict[str, EventTypeRecord] = {}
        """Event types whose last record took no effect. Compaction would keep only that one; see :meth:`settle`."""
        self._refused: set[int] = set()
        self._settling = asyncio.Lock()
        self._unusable: dict[str, str] = {}
        self._followers: list[Callable[[EventTypes], object]] = []

    def follow(self, follower: Callable[[EventTypes], object]) -> None:
        """Call ``follower`` with the event types now, and whenever they change."""
        self._followers.append(follower)
        follower(self.types)

    def get(self, name: str) -> EventTypeRecord | None:
        """The record of an event type that was added with the API, and not removed."""
        record = self._records.get(name)
        return None if record is None or record.entry is None else record

    def added(self, name: str) -> ConfiguredEventType | None:
        """An event type that was added with the API, as it is used."""
        return self._added.get(name)

    def former_topics(self, name: str, topic: str | None) -> tuple[str, ...]:
        """The topics that the next record of an event type must list as former ones. ``topic``: its new topic."""
        record = self._records.get(name)
        if record is None:
            return ()
        left = {*record.former_topics, *_topic_in(record)} - {topic, *self.topics}
        return tuple(sorted(left))

    def removed(self) -> Sequence[EventTypeRecord]:
        """The last records of removed event types, sorted by name, without those that are now in the file."""
        return [
            record for name, record in sorted(self._records.items()) if record.entry is None and name not in self.of_file.by_name
        ]

    def unusable(self) -> Mapping[str, str]:
        """Event types whose last record cannot be used, each with the reason. The previous version stays in use."""
        return dict(sorted(self._unusable.items()))

    def origin(self, name: str) -> str:
        """Where an event type comes from: ``built_in``, ``file`` or ``api``."""
        if name not in self.of_file.by_name:
            return "api"
        return "file" if name in self.of_file.configured else "built_in"

    def next_revision(self, name: str) -> int:
        """The lowest revision for the next record of an event type."""
        record = self._records.get(name)
        return 1 if record is None else record.revision + 1

    async def write(self, producer: Producer, record: EventTypeRecord) -> None:
        """Write a change and wait until it can be read here.

        Raises:
            StaleEventTypeError: it took no effect: the event type was changed at the same time.
        """
        position = await producer.send(self._topic, key=record.name.encode(), value=to_json(record))
        await self.table.wait_for(position.offset)
        if position.offset in self._refused:
            raise StaleEventTypeError(f"Another change of the event type {record.name} was first.")

    async def settle(self, producer: Producer) -> None:
        """Write the event types again whose last record took no effect: compaction keeps only the last record."""
        async with self._settling:  # two loops that take turns at being first would never end
            while self._stale:
                name = next(iter(self._stale))
                current = self._records[name]
                with suppress(StaleEventTypeError):  # it was changed in the meantime, so it is checked again
                    await self.write(producer, replace(current, revision=self.next_revision(name)))

    def _prepare(self, record: Record) -> None:
        try:
            change = None if record.value is None else from_json(record.value, EventTypeRecord)
            if change is not None and change.entry is not None:
                self._prepared[record.offset] = _event_type(change.name, change.entry, self.topics)
        except Exception as error:  # noqa: BLE001 - it is reported when the record is applied
            self._prepared[record.offset] = error

    def _apply(self, records: Iterable[Record]) -> None:
        before, former_before = self._added.copy(), self.types.former_topics
        for record in records:
            try:
                self._apply_one(record)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one record, the others must be applied
                metrics.TABLE_ERRORS.inc()
                # The text of an unexpected error may contain a value of the record.
                reason = str(error) if isinstance(error, InvalidRecordError | _UnusableError) else type(error).__name__
                log.warning("an event type's record cannot be used", topic=self._topic, offset=record.offset, error=reason)
        types = EventTypes([*self.of_file.configured.values(), *self._added.values()], self._all_former_topics())
        if self._added != before or types.former_topics != former_before:
            self.types = types
            for follower in self._followers:
                follower(self.types)

    def _all_former_topics(self) -> tuple[str, ...]:
        named = {topic for record in self._records.values() for topic in record.former_topics}
        # Event types that are now in the file, and were added with the API before.
        named.update(
            topic for name, record in self._records.items() if name in self.of_file.by_name for topic in _topic_in(record)
        )
        return tuple(sorted(topic for topic in named if added_topic_problem(topic) is None))

    def _apply_one(self, record: Record) -> None:
        prepared = self._prepared.pop(record.offset, None)
        if record.value is None:
            name = (record.key or b"").decode()
            self._records.pop(name, None)
            self._added.pop(name, None)
            self._unusable.pop(name, None)
            return
        change = from_json(record.value, EventTypeRecord)
        known = self._records.get(change.name)
        if known is not None and change.revision <= known.revision:
            self._stale[change.name] = change
            self._refused.add(record.offset)
            return
        self._records[change.name] = change
        self._stale.pop(change.name, None)
        self._unusable.pop(change.name, None)
        if change.entry is None:
            self._added.pop(change.name, None)
            return
        try:
            self._added[change.name] = self._usable(change.name, change.entry, prepared)
        except Exception as error:  # the previous version stays in use
            self._unusable[change.name] = str(error) if isinstance(error, _UnusableError) else type(error).__name__
            raise

    def _usable(
        self, name: str, entry: dict[str, object], prepared: ConfiguredEventType | Exception | None
    ) -> ConfiguredEventType:
        if name in self.of_file.by_name:
            raise _UnusableError(f"{name} is also built in or in the file of event types, which takes precedence.")
        if len(self.of_file.configured) + len(self._added.keys() - {name}) >= MAX_TYPES:
            raise _UnusableError(f"{name}: there are {MAX_TYPES} event types already.")
        if isinstance(prepared, Exception):
            raise prepared
        return prepared or _event_type(name, entry, self.topics)


def _event_type(name: str, entry: dict[str, object], topics: Collection[str]) -> ConfiguredEventType:
    """Raises _UnusableError if there is a problem."""
    problems = entry_problems(entry, topics) if entry.get("name") == name else [("name", "It differs from the record's name.")]
    if problems:
        reasons = "; ".join(f"{field}: {message}" for field, message in problems[:_MAX_SHOWN])
        raise _UnusableError(f"{name}: {reasons}")
    return event_type_of(entry)


def _topic_in(record: EventTypeRecord) -> tuple[str, ...]:
    """The valid topic in a record, if there is one."""
    topic = None if record.entry is None else record.entry.get("topic")
    return (topic,) if isinstance(topic, str) and added_topic_problem(topic) is None else ()


class _UnusableError(Exception):
    """An event type that this process cannot use; ``str(error)`` says why, without values."""
