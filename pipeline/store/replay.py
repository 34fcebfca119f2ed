"""Events of the past, in the order in which they were received, each once: what a replay sends.

An event may stand there twice (a fan-out that crashed dispatched it again). It counts where it was received first, and the whole range
is looked at for every page, so that its second row never makes it a second event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pipeline.store.bodies import bodies
from pipeline.store.conditions import milliseconds
from pipeline.store.connection import Connections
from pipeline.store.parameters import Parameters
from pipeline.store.reader import Budget, Reader, sql
from schemas.event import EventMeta, EventType


class Place(NamedTuple):
    """Where an event stands in the order: milliseconds since 1970 when it was first received, and its id."""

    received_ms: int
    event_id: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events, to which endpoints. ``since`` up to, and without, ``until``, by the time received. Empty: all.

    ``matched_only``: an endpoint gets what it matched when the event was received; otherwise it gets all of them.
    """

    since: datetime
    until: datetime
    endpoint_ids: tuple[int, ...]
    event_names: tuple[str, ...] = ()
    order_numbers: tuple[str, ...] = ()
    matched_only: bool = True


@dataclass(frozen=True, slots=True)
class Replayed:
    """An event of a page. ``body`` is None when it was erased, or its retention is over."""

    place: Place
    meta: EventMeta
    endpoint_ids: tuple[int, ...]
    body: bytes | None


class Replays:
    """Every method raises StoreUnavailableError, and StoreBudgetError when it asks for too much."""

    def __init__(self, connections: Connections) -> None:
        self._reader = Reader(connections, Budget(seconds=20.0))

    async def count(self, wanted: Wanted) -> tuple[int, int]:
        """How many events, and how many notifications they make."""
        parameters = Parameters()
        asked = parameters.add(list(wanted.endpoint_ids), "Array(Int64)")
        each = f"length(arrayIntersect(endpoints, {asked}))" if wanted.matched_only else f"length({asked})"
        grouped = sql(
            "SELECT event_id, groupUniqArrayArray(endpoint_ids) AS endpoints FROM events WHERE",
            _where(wanted, parameters),
            "GROUP BY event_id",
        )
        statement = sql("SELECT count(), sum(", each, ") FROM (", grouped, ")")
        [(events, notifications)] = await self._reader.anew().rows(statement, parameters.values)
        return int(events), int(notifications)

    async def page(self, wanted: Wanted, after: Place | None, limit: int) -> list[Replayed]:
        """The next events behind a place; fewer than ``limit`` at the end."""
        parameters = Parameters()
        behind = ""
        if after is not None:
            place = f"({parameters.add(after.received_ms, 'Int64')}, {parameters.add(after.event_id, 'String')})"
            behind = f"HAVING (toUnixTimestamp64Milli(first), event_id) > {place}"
        references = "any(order_number), any(shipment_numbers), any(subscription_id), any(stock_item_id), any(skus)"
        statement = sql(
            "SELECT event_id, min(received_at) AS first, any(event_name), any(created_at),",
            references,
            ", arraySort(groupUniqArrayArray(endpoint_ids)) FROM events WHERE",
            _where(wanted, parameters),
            "GROUP BY event_id",
            behind,
            f"ORDER BY first, event_id LIMIT {limit:d}",
        )
        rows = await self._reader.anew().rows(statement, parameters.values)
        found = await bodies(self._reader.anew(), [(row[0], row[1]) for row in rows])
        return [_replayed(row, wanted, found.get(row[0])) for row in rows]


def _where(wanted: Wanted, parameters: Parameters) -> str:
    since, until = parameters.time(milliseconds(wanted.since)), parameters.time(milliseconds(wanted.until))
    # Operational events and test deliveries are no events of the OMS.
    names = wanted.event_names or tuple(event.value for event in EventType)
    tests = [
        f"received_at >= {since} AND received_at < {until} AND source_topic != 'test'",
        f"event_name IN {parameters.add(list(names), 'Array(String)')}",
    ]
    if wanted.order_numbers:
        tests.append(f"order_number IN {parameters.add(list(wanted.order_numbers), 'Array(String)')}")
    if wanted.matched_only:
        tests.append(f"hasAny(endpoint_ids, {parameters.add(list(wanted.endpoint_ids), 'Array(Int64)')})")
    return " AND ".join(tests)


def _replayed(row: Sequence[Any], wanted: Wanted, body: bytes | None) -> Replayed:
    event_id, first, name, created_at, order, shipments, subscription, stock_item, skus, matched = row
    meta = EventMeta(
        id=event_id,
        event_name=name,
        created_at=created_at,
        order_number=order or None,
        shipment_numbers=tuple(shipments),
        subscription_id=subscription or None,
        stock_item_id=stock_item,
        skus=tuple(skus),
        received_at=first,
    )
    chosen = tuple(one for one in wanted.endpoint_ids if one in matched) if wanted.matched_only else wanted.endpoint_ids
    return Replayed(Place(milliseconds(first), event_id), meta, chosen, body)
