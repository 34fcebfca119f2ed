"""Reads events from records of the source topics, in every supported form. Pure. Each process creates one reader at its start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

from msgspec import structs

from schemas.codec import InvalidRecordError, from_json
from schemas.delivery import DeadLetterReason
from schemas.event_codec import DecodedEvent, checked_value, decode_event, without_token
from schemas.event_fast_path import decode_event_fast
from schemas.event_key import event_key
from schemas.event_types import EventTypes
from schemas.foreign_formats import detect_format
from schemas.operational import OperationalEvent
from schemas.producer_forms import ProducerForm, Translated, is_missing_key, translated, unframed
from schemas.topics import Topics

NO_KEY: Final = "The record has no key; publish it with the order number (stock events: the stock item id) as its key."
_ODD_KEYS: Final = b'\x00"{'
"""The first byte of a key written by a converter or a serializer, whose content may be empty."""
_NO_OBJECT: Final = "The value is not a JSON object: "


class PublishedRecord(Protocol):
    """The parts of a record that are read; ``timestamp_ms`` is when it was written, -1 if unknown."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...
    @property
    def timestamp_ms(self) -> int: ...


class ReadRecord(PublishedRecord, Protocol):
    """A record that was read from Kafka: ``partition`` is its topic, under Kafka's name, and the number of its partition."""

    @property
    def partition(self) -> tuple[str, int]: ...
    @property
    def offset(self) -> int: ...


class _Unpublished(NamedTuple):
    """A record that will be published with a key and without headers; Kafka will set its time."""

    value: bytes
    key: bytes = b"any"
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int = 1


class EventReader:
    """Recognizes the form of a record: by its content, or by the setting ``producer_forms`` for its topic.

    Our own envelope is accepted in any topic, whatever the setting says.
    """

    def __init__(
        self,
        types: EventTypes,
        topics: Topics,
        *,
        max_bytes: int,
        forms: Mapping[str, ProducerForm] | None = None,
    ) -> None:
        """``forms`` are by topic, under Kafka's names; by default, the content decides (``auto``)."""
        self._prefix = topics.prefix
        self._operational_events = topics.operational_events
        self._sources = topics.sources
        self._max_bytes = max_bytes
        self._forms = dict(forms or {})
        self.use(types)

    def use(self, types: EventTypes) -> None:
        """Read events of these types from now on."""
        self.types = types
        self._topic_of = {name: self._prefix + one.topic for name, one in types.by_name.items()}
        self._topics = frozenset((*self._sources, *self._topic_of.values()))
        added = (*types.more_topics, *types.former_topics)
        self.sources = tuple(dict.fromkeys((*self._sources, *(self._prefix + topic for topic in added))))
        """The topics that events are read from, under Kafka's names."""

    def event_of(self, record: ReadRecord, received_at: datetime | None) -> DecodedEvent:
        """The event in a record, with its event key and its sequence; ``received_at`` is when it was written to Kafka, if known.

        Raises:
            InvalidRecordError: it is a dead letter (see `read`).
        """
        topic, partition = record.partition
        if topic == self._operational_events:
            operational = from_json(record.value, OperationalEvent)
            event = DecodedEvent(operational.meta, bytes(operational.data))
        else:
            event = self.read(record, topic, received_at)
        key = event_key(topic.removeprefix(self._prefix), partition, record.key)
        event.meta = structs.replace(event.meta, received_at=received_at, key=key, sequence=record.offset)
        return event

    def read(self, record: PublishedRecord, topic: str, received_at: datetime | None = None) -> DecodedEvent:
        """The event in a record of a source topic; ``received_at`` is when it was written there, if known.

        Raises:
            InvalidRecordError: it has no key, has no known form, belongs in another topic, or is invalid (see ``decode_event``).
        """
        key, value = record.key, record.value
        # The fast path for nearly all events: there are thousands a second.
        is_usual = key and key[0] not in _ODD_KEYS and value is not None and len(value) <= self._max_bytes
        if is_usual and (read := decode_event_fast(value, received_at)):  # type: ignore[arg-type]
            meta, data, has_token = read
            if self._topic_of[meta.event_name] == topic:
                return DecodedEvent(meta, without_token(data) if has_token else data)
        event = self.decode(record, topic, received_at)
        if self._topic_of[event.meta.event_name] != topic and topic in self._topics:
            raise self._in_the_wrong_topic(event.meta.event_name, topic)
        return event

    def decode(self, record: PublishedRecord, topic: str, received_at: datetime | None = None) -> DecodedEvent:
        """The same for an event that may belong in another topic."""
        if is_missing_key(record.key):
            raise InvalidRecordError(DeadLetterReason.MISSING_KEY, NO_KEY)
        value = checked_value(record.value, self._max_bytes)
        other = translated(
            value,
            record.headers,
            names=self.types.by_name.keys(),
            written_at=_moment(record.timestamp_ms),
            form=self._forms.get(topic, ProducerForm.AUTO),
        )
        content = other.value if other is not None else value
        try:
            # A translated envelope may be larger than its source, whose size was accepted.
            return decode_event(
                content, max_bytes=max(self._max_bytes, len(content)), received_at=received_at, configured=self.types.configured
            )
        except InvalidRecordError as error:
            raise _with_format(error, value, other) from error

    def read_unpublished(self, value: bytes) -> DecodedEvent:
        """The event in a value that will be published to its topic, with a key and without headers.

        Raises:
            InvalidRecordError: it would become a dead letter.
        """
        record = _Unpublished(value)
        event = self.decode(record, "")
        return self.decode(record, topic) if (topic := self.topic_of(event.meta.event_name)) in self._forms else event

    def topic_of(self, event_name: str) -> str:
        """The topic of an event type, under Kafka's name."""
        return self._topic_of[event_name]

    def _in_the_wrong_topic(self, event_name: str, topic: str) -> InvalidRecordError:
        message = f"{event_name} belongs in {self._topic_of[event_name]}; this is {topic}. Publish it there."
        return InvalidRecordError(DeadLetterReason.UNKNOWN_EVENT, message, [("event_name", message.rstrip("."))])


def _with_format(error: InvalidRecordError, value: bytes, other: Translated | None) -> InvalidRecordError:
    """The same error with the form that the value was read as, or with the format that it looks like."""
    message = str(error)
    if other is not None:
        return InvalidRecordError(error.reason, f"Read as {other.form}: {message}", error.problems)
    if error.reason not in (DeadLetterReason.NOT_JSON, DeadLetterReason.INVALID_ENVELOPE, DeadLetterReason.UNKNOWN_EVENT):
        return error
    format_name = detect_format(unframed(value))
    if format_name is None:
        return error
    if error.reason is DeadLetterReason.NOT_JSON:
        return InvalidRecordError(error.reason, f"The value is not JSON: it looks like {format_name}", error.problems)
    prefix = _NO_OBJECT if message.startswith(_NO_OBJECT) else "The value is not an event: "
    return InvalidRecordError(error.reason, f"{prefix}it looks like {format_name}", error.problems)


def _moment(timestamp_ms: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC) if timestamp_ms > 0 else None
    except (ValueError, OverflowError, OSError):
        return None
