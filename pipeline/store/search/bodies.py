"""Reads the bodies of many attempts together: those sent, by their place in the primary key of ``events``, and the answers'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pipeline.store.bound_values import BoundValues
from pipeline.store.reader import Reader, sql
from pipeline.store.rows import UNKNOWN_TIME
from pipeline.store.search.attempt_rows import AttemptRow
from pipeline.store.search.conditions import milliseconds
from pipeline.store.search.first_events import among, constant_times

LARGE_BODY: Final = 256 * 1024
"""A page of larger bodies would not fit into memory. They are read one at a time, or not at all."""

_AS_BYTES: Final = {"sent": "bytes"}


@dataclass(frozen=True, slots=True)
class Bodies:
    """The bodies of an attempt. ``request_body`` is None if the event is not in ClickHouse (yet, or any more)."""

    request_body: str | None
    response_body: str
    response_body_encoding: str


@dataclass(frozen=True, slots=True)
class SentEvent:
    """An event as it was sent: its body, and the values by which receivers can order it; ``key`` is empty if not recorded.

    ``body`` is empty if it is larger than what was asked for.
    """

    body: bytes
    key: str
    sequence: int


@dataclass(frozen=True, slots=True)
class SentEvents:
    """Events as they were sent. Ids are not unique: a producer may publish another body with the same id."""

    _by_id: Mapping[str, Mapping[int, SentEvent]]
    """By id, then by the time received."""

    def get(self, event_id: str, received: datetime) -> SentEvent | None:
        """The event of this id that was received at a time or, if none is known with this time, another one of this id."""
        found = self._by_id.get(event_id, {})
        return found.get(_milliseconds(received)) or next(iter(found.values()), None)


async def bodies_of(reader: Reader, attempts: Sequence[AttemptRow], most_bytes: int | None = None) -> dict[int, Bodies | None]:
    """The bodies of attempts, by id. None: the request body is larger than ``most_bytes``. Attempts that are not in ClickHouse (any more)
    are left out.
    """
    if not attempts:
        return {}
    parameters = BoundValues()
    # The time is a condition too, because the primary key begins with it.
    within = f"created_at IN {constant_times([milliseconds(one.created_at) for one in attempts], parameters)}"
    wanted = f"id IN {parameters.add([one.id for one in attempts], 'Array(Int64)')}"
    answered = "id, event_id, event_received_at, response_body, response_body_encoding"
    rows = await reader.rows(sql("SELECT", answered, "FROM attempts WHERE", within, "AND", wanted), parameters.values)
    sent = await sent_events(reader, [(event_id, received) for _, event_id, received, _, _ in rows], most_bytes)
    return {
        identifier: _bodies(sent.get(event_id, received), body, encoding)
        for identifier, event_id, received, body, encoding in rows
    }


def _bodies(event: SentEvent | None, response_body: str, encoding: str) -> Bodies | None:
    """None if the event's body was too large to be read."""
    if event is None:
        return Bodies(None, response_body, encoding)
    return Bodies(event.body.decode("utf-8", "replace"), response_body, encoding) if event.body else None


async def request_bodies(reader: Reader, attempts: Sequence[AttemptRow]) -> dict[str, str]:
    """What attempts sent, by event id, in one query if the attempts say when their events were received. Large bodies are left out."""
    if not attempts:
        return {}
    parameters = BoundValues()
    made = f"created_at IN {constant_times([milliseconds(one.created_at) for one in attempts], parameters)}"
    named = f"id IN {parameters.add([one.id for one in attempts], 'Array(Int64)')}"
    ids = sorted({one.event_id for one in attempts})
    # The primary key begins with the time.
    received = ("received_at IN (SELECT event_received_at FROM attempts WHERE", made, "AND", named, ")")
    wanted = f"AND event_id IN {parameters.add(ids, 'Array(String)')} AND request_body != ''"
    statement = sql("SELECT event_id,", _body(LARGE_BODY), "FROM events WHERE", *received, wanted)
    rows = await reader.rows(statement, parameters.values, _AS_BYTES)
    found = {event_id: bytes(body) for event_id, body in rows}
    if elsewhere := [(one, UNKNOWN_TIME) for one in ids if one not in found]:
        sent = await sent_events(reader, elsewhere, LARGE_BODY)
        found |= {one: event.body for one, received in elsewhere if (event := sent.get(one, received)) is not None}
    return {event_id: body.decode("utf-8", "replace") for event_id, body in found.items() if body}


async def sent_events(reader: Reader, events: Sequence[tuple[str, datetime]], most_bytes: int | None = None) -> SentEvents:
    """Events as they were sent. Erased events are left out.

    ``events`` are ids with the times received, 1970 if unknown. Bodies larger than ``most_bytes`` are not read.
    """
    if not events:
        return SentEvents({})
    parameters = BoundValues()
    known = {(event_id, _milliseconds(received)) for event_id, received in events}
    still_there = f"{among(sorted(known), parameters)} AND request_body != ''"
    columns = ("SELECT event_id, toUnixTimestamp64Milli(received_at),", _body(most_bytes), ", event_key, source_offset")
    statement = sql(*columns, "FROM events WHERE", still_there)
    found: dict[str, dict[int, SentEvent]] = {}
    for event_id, received, body, key, offset in await reader.rows(statement, parameters.values, _AS_BYTES):
        found.setdefault(event_id, {})[received] = SentEvent(bytes(body), key, offset)
    return SentEvents(found)


def _milliseconds(received: datetime) -> int:
    return 0 if received == UNKNOWN_TIME else milliseconds(received)


def _body(most_bytes: int | None) -> str:
    """The column of the sent body, empty if it is larger. Its name differs from the stored one, which conditions refer to."""
    return (
        "request_body AS sent" if most_bytes is None else f"if(length(request_body) > {most_bytes:d}, '', request_body) AS sent"
    )
