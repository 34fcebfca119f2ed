"""The story of an order, a shipment or a subscription: each event, each endpoint, delivered or not, and why. Pure."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.store.attempts import AttemptRow
from pipeline.store.story import EventRow, Record


class Standing(enum.StrEnum):
    """Where the delivery of an event to an endpoint stands."""

    DELIVERED = "delivered"
    WAITING = "waiting"
    """The endpoint matched, and no attempt is on record (yet)."""
    REPEATING = "repeating"
    GIVEN_UP = "given up"
    DISCARDED = "discarded"
    EXPIRED = "expired"


_STANDINGS = {
    "repeated": Standing.REPEATING,
    "exhausted": Standing.GIVEN_UP,
    "discarded": Standing.DISCARDED,
    "expired": Standing.EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event at an endpoint. ``attempts`` are all that are on record, the newest first; ``why`` is a sentence."""

    endpoint_id: int
    standing: Standing
    why: str
    attempts: tuple[AttemptRow, ...]

    @property
    def last(self) -> AttemptRow | None:
        """The attempt that decided: the last that was acknowledged, or else the last."""
        return next((one for one in self.attempts if one.state == "succeeded"), next(iter(self.attempts), None))


@dataclass(frozen=True, slots=True)
class Chapter:
    """An event. ``received_at`` is None while it is not in ClickHouse; then who matched is not known either."""

    event_id: str
    event_name: str
    created_at: datetime
    received_at: datetime | None
    shipment_numbers: tuple[str, ...]
    deliveries: tuple[Delivery, ...]

    @property
    def is_settled(self) -> bool:
        """Whether everybody has got it who should."""
        return all(one.standing is Standing.DELIVERED for one in self.deliveries)


@dataclass(frozen=True, slots=True)
class Story:
    """Chapters, the newest first. ``is_complete`` is False where older ones are left out."""

    chapters: tuple[Chapter, ...]
    order_numbers: tuple[str, ...]
    shipment_numbers: tuple[str, ...]
    subscription_ids: tuple[str, ...]
    is_complete: bool

    def count(self, *standings: Standing) -> int:
        """How many deliveries stand so."""
        return sum(one.standing in standings for chapter in self.chapters for one in chapter.deliveries)


def tell(record: Record) -> Story:
    """Fold events and attempts into chapters: by when they happened, each endpoint that matched or was sent something."""
    attempts: defaultdict[str, list[AttemptRow]] = defaultdict(list)
    for attempt in record.attempts:
        attempts[attempt.event_id].append(attempt)
    known = {event.event_id: event for event in record.events}
    chapters = [_chapter(event_id, known.get(event_id), attempts[event_id]) for event_id in {**known, **attempts}]
    chapters.sort(key=lambda chapter: (chapter.created_at, chapter.event_id), reverse=True)
    rows: list[EventRow | AttemptRow] = [*record.events, *record.attempts]
    return Story(
        tuple(chapters),
        _each(row.order_number for row in rows),
        _each(number for row in rows for number in row.shipment_numbers),
        _each(row.subscription_id for row in rows),
        record.is_complete,
    )


def _chapter(event_id: str, event: EventRow | None, attempts: Sequence[AttemptRow]) -> Chapter:
    matched = event.endpoint_ids if event is not None else ()
    endpoints = dict.fromkeys([*matched, *sorted(one.endpoint_id for one in attempts)])
    deliveries = tuple(
        _delivery(endpoint_id, tuple(one for one in attempts if one.endpoint_id == endpoint_id)) for endpoint_id in endpoints
    )
    if event is not None:
        return Chapter(event_id, event.event_name, event.created_at, event.received_at, event.shipment_numbers, deliveries)
    first = attempts[0]
    return Chapter(event_id, first.event_name, first.event_created_at, None, first.shipment_numbers, deliveries)


def _delivery(endpoint_id: int, attempts: tuple[AttemptRow, ...]) -> Delivery:
    if not attempts:
        why = "It matched, and no attempt is on record yet: it is on its way, parked while the endpoint has trouble, or held while it is paused."
        return Delivery(endpoint_id, Standing.WAITING, why, ())
    acknowledged = next((one for one in attempts if one.state == "succeeded"), None)
    if acknowledged is not None:
        return Delivery(endpoint_id, Standing.DELIVERED, f"Acknowledged with {acknowledged.http_status_code}.", attempts)
    last = _deciding(attempts)
    standing = _STANDINGS.get(last.outcome, Standing.GIVEN_UP)
    endings = {Standing.REPEATING: "It will be repeated.", Standing.GIVEN_UP: "It was the last attempt."}
    return Delivery(endpoint_id, standing, " ".join(filter(None, (last.error, endings.get(standing)))), attempts)


def _deciding(attempts: Sequence[AttemptRow]) -> AttemptRow:
    """The newest attempt; but where a repeat is to come in another series (of the event, or of a resend), the newest of that."""
    newest: dict[bool, AttemptRow] = {}
    for one in attempts:
        newest.setdefault(one.trigger == "resend", one)
    return next((one for one in newest.values() if one.outcome == "repeated"), attempts[0])


def _each(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if value}))
