"""A preview of what an endpoint would have received: past events, matched by the same code as in the fan-out."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pipeline.core.counted import counted
from pipeline.core.filters.stored import Filters, compiled
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.subscriptions import FilterFailure, MatchInput, Subscriptions
from pipeline.store.reports.history import PastEvent
from pipeline.web.search_errors import searching
from pipeline.web.services import PreviewServices
from schemas.codec import payload_of
from schemas.endpoint import EndpointRecord
from schemas.event_codec import read_webhook_body
from schemas.event_types import BUILT_IN, EventTypes
from schemas.http.previews import PreviewAnswer, PreviewedEvent, PreviewFailure, PreviewInput

MAX_EVENTS: Final = 50_000
MAX_SECONDS: Final = 15.0
_PAGE: Final = 500
_SLICE: Final = 50
"""Events to match before other tasks of this process may run."""
_EXAMPLES: Final = 10
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PreviewBudget:
    """The limits of a preview. The answer says which time it covers."""

    events: int = MAX_EVENTS
    seconds: float = MAX_SECONDS
    page: int = _PAGE


class PreviewTally:
    """Counts what an endpoint with these events and filters gets. Each event counts once."""

    def __init__(
        self,
        event_names: Iterable[str],
        filters: Filters,
        *,
        pins: Mapping[str, int] | None = None,
        types: EventTypes = BUILT_IN,
    ) -> None:
        """``pins``: versions of event types that the endpoint pins."""
        self._subscriptions = Subscriptions()
        self._subscriptions.add(_endpoint(tuple(event_names), filters, pins or {}))
        self._types = types
        self._seen: set[str] = set()
        self._failures: dict[str, PreviewFailure] = {}
        self.matched = 0
        self.unread = 0
        self.would: list[PreviewedEvent] = []
        self.would_not: list[PreviewedEvent] = []

    @property
    def examined(self) -> int:
        """The total number of events."""
        return len(self._seen)

    @property
    def failures(self) -> list[PreviewFailure]:
        """The filters that failed, at most ten."""
        return list(self._failures.values())

    def take(self, event: PastEvent) -> None:
        """Match one event against the filters."""
        if event.id in self._seen:
            return
        self._seen.add(event.id)
        if event.body is None:
            self.unread += 1
            return
        members, data = read_webhook_body(event.body)
        payload = functools.partial(payload_of, data)
        version = self._types.version_getter(event.event_name, payload)
        seen = MatchInput(event.event_name, payload, lambda: members, version)
        is_wanted = bool(self._subscriptions.matching(seen, functools.partial(self._failed, event.id)))
        self.matched += is_wanted
        examples = self.would if is_wanted else self.would_not
        if len(examples) < _EXAMPLES:
            shown = PreviewedEvent(
                id=event.id, event_name=event.event_name, received_at=event.received_at, order_number=event.order_number or None
            )
            examples.append(shown)

    def _failed(self, event_id: str, failure: FilterFailure) -> None:
        known = self._failures.get(failure.expression)
        if known is not None:
            self._failures[failure.expression] = known.model_copy(update={"count": known.count + 1})
        elif len(self._failures) < _EXAMPLES:
            self._failures[failure.expression] = PreviewFailure(
                expression=failure.expression, reason=failure.reason, event_id=event_id, count=1
            )


async def preview(api: PreviewServices, given: PreviewInput, budget: PreviewBudget | None = None) -> PreviewAnswer:
    """Read the events of the last days, newest first, and count the matches.

    Raises:
        ApiError: 503, ClickHouse cannot answer now.
        InvalidError: it would take more time or memory than it may.
    """
    bounds = budget or PreviewBudget()
    names = list(given.events)
    tally = PreviewTally(names, compiled(given.filters), pins=given.event_type_versions, types=api.events.types)
    until = api.clock()
    since = until - timedelta(days=given.days)
    started = time.monotonic()
    last: PastEvent | None = None
    is_complete = False
    async with searching(api):
        while tally.examined < bounds.events and time.monotonic() - started < bounds.seconds:
            page = await api.history.page(since, until, names, last, bounds.page)
            await _take(tally, page)
            if len(page) < bounds.page:
                is_complete = True
                break
            last = page[-1]
        reached = since if is_complete or last is None else last.received_at
        events = await api.history.count(reached, until)
    return _answer(tally, given.days, events, (reached, until), is_complete=is_complete)


async def _take(tally: PreviewTally, page: Sequence[PastEvent]) -> None:
    for start in range(0, len(page), _SLICE):
        for event in page[start : start + _SLICE]:
            tally.take(event)
        await asyncio.sleep(0)


def _answer(
    tally: PreviewTally, days: int, events: int, covered: tuple[datetime, datetime], *, is_complete: bool
) -> PreviewAnswer:
    since, until = covered
    span = f"the last {days} days" if days > 1 else "the last day"
    reached = "" if is_complete else f" The preview reached its limit and covers the time since {since:%Y-%m-%d %H:%M} UTC."
    unread = f" {tally.unread:,} could not be checked: too large, erased or too old." if tally.unread else ""
    return PreviewAnswer(
        sentence=f"The endpoint would have received {tally.matched:,} of {counted(events, 'event')} in {span}.{reached}{unread}",
        matched=tally.matched,
        events=events,
        examined=tally.examined,
        unread=tally.unread,
        since=since,
        until=until,
        is_complete=is_complete,
        would=tally.would,
        would_not=tally.would_not,
        failures=tally.failures,
    )


def _endpoint(event_names: tuple[str, ...], filters: Filters, pins: Mapping[str, int]) -> Endpoint:
    """An endpoint that is not registered. Matching only uses its events, pins and filters."""
    record = EndpointRecord(
        id=0,
        target_url="",
        events=event_names,
        event_type_versions=dict(pins),
        created_at=_LONG_AGO,
        updated_at=_LONG_AGO,
    )
    return Endpoint(
        id=0,
        target_url="",
        events=frozenset(event_names),
        filters=filters,
        problem=None,
        record=record,
        credential=None,
        headers={},
        _keys=(),
    )
