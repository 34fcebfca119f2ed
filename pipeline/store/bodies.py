"""The bodies of many attempts at once: what was sent, by its place in the primary key of ``events``, and what was answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.store.attempts import AttemptRow
from pipeline.store.conditions import milliseconds
from pipeline.store.first_events import among, constant_times
from pipeline.store.parameters import Parameters
from pipeline.store.reader import Reader, sql
from pipeline.store.rows import UNKNOWN_TIME


@dataclass(frozen=True, slots=True)
class Bodies:
    """Of an attempt. ``request_body`` is None while the event is not in ClickHouse (yet, or any more)."""

    request_body: str | None
    response_body: str
    response_body_encoding: str


async def bodies_of(reader: Reader, attempts: Sequence[AttemptRow]) -> dict[int, Bodies]:
    """The bodies of attempts, by id."""
    if not attempts:
        return {}
    parameters = Parameters()
    # By time too: it begins the primary key.
    within = f"created_at IN {constant_times([milliseconds(one.created_at) for one in attempts], parameters)}"
    wanted = f"id IN {parameters.add([one.id for one in attempts], 'Array(Int64)')}"
    answered = "id, event_id, event_received_at, response_body, response_body_encoding"
    rows = await reader.rows(sql("SELECT", answered, "FROM attempts WHERE", within, "AND", wanted), parameters.values)
    sent = await bodies(reader, [(event_id, received) for _, event_id, received, _, _ in rows])
    texts = {event_id: body.decode("utf-8", "replace") for event_id, body in sent.items()}
    return {identifier: Bodies(texts.get(event_id), body, encoding) for identifier, event_id, _, body, encoding in rows}


async def bodies(reader: Reader, events: Sequence[tuple[str, datetime]]) -> dict[str, bytes]:
    """The bodies of events, as they are sent, by id; those that were erased are left out.

    ``events`` are ids with the times received, 1970 where that is not known.
    """
    if not events:
        return {}
    parameters = Parameters()
    known = {(event_id, 0 if received == UNKNOWN_TIME else milliseconds(received)) for event_id, received in events}
    still_there = f"{among(sorted(known), parameters)} AND request_body != ''"
    statement = sql("SELECT event_id, request_body FROM events WHERE", still_there)
    rows = await reader.rows(statement, parameters.values, {"request_body": "bytes"})
    return {event_id: bytes(body) for event_id, body in rows}
