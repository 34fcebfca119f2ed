"""Counts and logs filters that fail on events, and reports them to the other processes, which show them on the endpoint's page.

The owner of an endpoint whose filter keeps failing gets an operational event, and another one for each further day.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from pipeline.broker.api import Position
from pipeline.broker.errors import PublishError
from pipeline.broker.producer import Producer
from pipeline.core.filters.evaluation import FilterFault
from pipeline.delivery.owner_notices import OwnerNotices
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.subscriptions import FilterFailure
from pipeline.ops import metrics
from pipeline.ops.clock import Clock
from pipeline.ops.logs import logger
from schemas.codec import to_json
from schemas.health import HealthFact, HealthRecord

log = logger(__name__)

GATHER_SECONDS: Final = 5.0
"""How long failures are collected before they are reported."""
MIN_REPORT_SECONDS: Final = 600.0
"""The shortest time between two reports about one endpoint."""
NOTICE_AFTER: Final = timedelta(minutes=5)
"""After how long a failing filter counts as one that keeps failing."""
_DAY: Final = timedelta(days=1)
"""If a filter has not failed for this long, its next failure counts as the first."""
_MAX_KINDS: Final = 1_000
"""How many different failures are collected at a time; further ones are only counted."""
_MAX_REPORTED: Final = 200
"""How many endpoints are reported at a time: ten thousand may have the same filter. The others follow."""


@dataclass(slots=True)
class _Failures:
    """The last failure of an expression, and how many there were since the last report."""

    failure: FilterFailure
    event_id: str
    at: datetime
    count: int = 0


class FilterFailureMonitor:
    """One in each fan-out. Used from the event loop only."""

    def __init__(
        self, registry: Registry, producer: Producer, topic: str, clock: Clock, notices: OwnerNotices | None = None
    ) -> None:
        """``topic`` is the topic of the endpoints' health. Without ``notices``, owners are not told."""
        self._registry = registry
        self._producer = producer
        self._topic = topic
        self._clock = clock
        self._gathered: dict[FilterFailure, _Failures] = {}
        self._waiting: dict[int, _Failures] = {}
        """By endpoint: what is reported when its turn comes."""
        self._reported_at: dict[int, float] = {}
        self._notices = notices
        self._notices_in_progress: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        for fault in FilterFault:  # start at 0: Prometheus does not see an increase from nothing to 1
            metrics.FILTER_FAILURES.labels(fault.value)

    def note(self, failure: FilterFailure, event_id: str) -> None:
        """Note that a filter failed on an event. Cheap, because there may be thousands."""
        metrics.FILTER_FAILURES.labels(failure.fault.value).inc()
        known = self._gathered.get(failure)
        if known is None:
            if len(self._gathered) >= _MAX_KINDS:
                return
            known = self._gathered[failure] = _Failures(failure, event_id, self._clock())
        known.event_id, known.at = event_id, self._clock()
        known.count += 1
        self._start(GATHER_SECONDS)

    def forget(self, endpoint_id: int) -> None:
        """Report nothing more about this endpoint, because it was deleted."""
        self._waiting.pop(endpoint_id, None)
        self._reported_at.pop(endpoint_id, None)

    def close(self) -> None:
        """Report nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._notices_in_progress:
            task.cancel()

    def report(self) -> None:
        """Report the collected failures of the endpoints whose turn it is."""
        self._timer = None
        for known in self._gathered.values():
            for endpoint_id in self._concerned(known.failure):
                before = self._waiting.get(endpoint_id)
                count = known.count + (before.count if before is not None else 0)
                self._waiting[endpoint_id] = _Failures(known.failure, known.event_id, known.at, count)
        self._gathered.clear()
        now = asyncio.get_running_loop().time()
        due = [one for one in self._waiting if now - self._reported_at.get(one, -MIN_REPORT_SECONDS) >= MIN_REPORT_SECONDS]
        for endpoint_id in due[:_MAX_REPORTED]:
            endpoint = self._registry.get(endpoint_id)
            waiting = self._waiting.pop(endpoint_id)
            if endpoint is not None:  # it may have been deleted since the failure
                self._reported_at[endpoint_id] = now
                self._report_endpoint(endpoint, waiting)
        if self._waiting:
            self._start(GATHER_SECONDS)

    def _start(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.report)

    def _concerned(self, failure: FilterFailure) -> list[int]:
        if failure.endpoint_id is not None:
            return [failure.endpoint_id]
        return [endpoint.id for endpoint in self._registry.concerned_by(failure)]

    def _report_endpoint(self, endpoint: Endpoint, failures: _Failures) -> None:
        failure, health = failures.failure, self._registry.health
        known = health.fact(endpoint.record, HealthFact.FILTER) if health is not None else None
        same = known if known is not None and known.expression == failure.expression else None
        ongoing = same if same is not None and failures.at - same.at < _DAY else None
        record = HealthRecord(
            endpoint_id=endpoint.id,
            endpoint_version=endpoint.record.version,
            fact=HealthFact.FILTER,
            at=failures.at,
            reason=failure.fault.value,
            detail=failure.reason,
            event_id=failures.event_id,
            expression=failure.expression,
            count=failures.count + (same.count if same is not None else 0),
            since=(ongoing.since or ongoing.at) if ongoing is not None else failures.at,
            told=ongoing.told if ongoing is not None else (),
        )
        # The expression may name a customer: the endpoint's page shows it, the log does not.
        log.warning(
            "a filter failed: nothing was sent",
            endpoint_id=endpoint.id,
            reason=failure.fault.value,
            event_id=failures.event_id,
            events=failures.count,
        )
        sent = self._producer.send(self._topic, key=record.key, value=to_json(record))
        sent.add_done_callback(_log_failure)
        day = _day_to_notify(record)
        if day is not None and self._notices is not None:
            task = asyncio.get_running_loop().create_task(self._notify_owner(self._notices, endpoint, record, day))
            self._notices_in_progress.add(task)
            task.add_done_callback(self._notices_in_progress.discard)

    async def _notify_owner(self, notices: OwnerNotices, endpoint: Endpoint, record: HealthRecord, day: int) -> None:
        """Write the event, then the fact that it was written. After a crash in between, the same event is written again."""
        try:
            await notices.filter_failing(endpoint, record, day)
            known = msgspec.structs.replace(record, told=(str(day),))
            await self._producer.send(self._topic, key=known.key, value=to_json(known))
        except PublishError as error:
            log.warning("the owner of an endpoint could not be told that a filter keeps failing", error=str(error))
        else:
            log.info("the owner of an endpoint was told that a filter keeps failing", endpoint_id=endpoint.id)


def _day_to_notify(record: HealthRecord) -> int | None:
    """The day to tell the owner of, counted from the first failure; None if there is nothing new."""
    passed = record.at - (record.since or record.at)
    day = passed // _DAY
    return day if passed >= NOTICE_AFTER and str(day) not in record.told else None


def _log_failure(sent: asyncio.Future[Position]) -> None:
    if not sent.cancelled() and (error := sent.exception()) is not None:  # affects only what is shown
        log.error("a filter's failures could not be reported to other processes", error=str(error))
