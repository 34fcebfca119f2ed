"""A dead letter, mended or as it was, back to the topic that it came from: checked first as the fan-out will check it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from pipeline.broker.api import Position, PublishError
from pipeline.store.reports import DeadLetterDetail
from pipeline.web.api import Api
from pipeline.web.audit import Asker, put_on_record
from pipeline.web.errors import ApiError, InvalidError, not_found
from pipeline.web.searching import searching
from schemas.audit import AuditAction
from schemas.codec import InvalidRecordError, decode_event, from_header
from schemas.delivery import DEAD_LETTER_HEADER, DeadLetter
from schemas.event import EventMeta

_UNCONFIRMED: Final = (
    "Kafka has not confirmed the record in time. It may still be published: look at the attempts before you try again."
)
_NO_KEY: Final = "The record has no key; give the order number (stock events: the stock item id)."
_CUT: Final = "Only the beginning of this record is here; its detail says where the whole one is. Give the whole value."


@dataclass(frozen=True, slots=True)
class Repair:
    """What is published instead; None: as it was."""

    key: bytes | None = None
    value: bytes | None = None


@dataclass(frozen=True, slots=True)
class Republished:
    """The event, and where Kafka put it."""

    event: EventMeta
    position: Position


async def republish(api: Api, who: Asker, identifier: int, repair: Repair) -> Republished:
    """Publish a dead letter again, with its headers; returns when Kafka has it. It is on record before.

    Raises:
        ApiError: 404, there is no such dead letter; 409, it did not come from a topic of events; 422, it would be a dead letter
            again; 503, Kafka or ClickHouse does not answer.
    """
    async with searching(api):
        letter = await api.reports.dead_letter(identifier)
    if letter is None:
        raise not_found()
    topic = letter.summary.topic
    if topic not in api.topics.sources:
        raise ApiError(409, f"It came from {topic}, which is not a topic that events are published to: see docs/runbook.md.")
    key, value, event = _checked(api, letter, repair)
    mended = [name for name, now, was in (("key", key, letter.key), ("value", value, letter.value)) if now != was]
    detail = f"to {topic}, event {event.id}, " + (f"mended: {', '.join(mended)}" if mended else "as it was")
    await put_on_record(api, who, AuditAction.REPUBLISH, f"dead letter {identifier}", detail)
    headers = [(name, content) for name, content in letter.headers if name != DEAD_LETTER_HEADER]
    try:
        async with asyncio.timeout(api.write_timeout_seconds):
            return Republished(event, await api.producer.send(topic, key=key, value=value, headers=headers))
    except TimeoutError:
        raise ApiError(503, _UNCONFIRMED) from None
    except PublishError as error:
        raise ApiError(409, str(error)) from error


def _checked(api: Api, letter: DeadLetterDetail, repair: Repair) -> tuple[bytes, bytes, EventMeta]:
    """Key, value and event, by the rules that the fan-out has."""
    key = repair.key if repair.key is not None else letter.key
    value = repair.value if repair.value is not None else letter.value
    if repair.value is None and is_cut(letter):
        raise InvalidError({"value": [_CUT]})
    errors = {"key": [_NO_KEY]} if key is None else {}
    try:
        event = decode_event(value, max_bytes=api.max_event_bytes).meta
    except InvalidRecordError as error:
        raise InvalidError({"value": [str(error)]} | errors) from error
    if key is None or value is None:
        raise InvalidError(errors)
    return key, value, event


def is_cut(letter: DeadLetterDetail) -> bool:
    """Whether only the beginning of the record was set aside."""
    try:
        return from_header(letter.headers, DEAD_LETTER_HEADER, DeadLetter).truncated
    except InvalidRecordError:  # somebody else wrote it to the topic
        return False
