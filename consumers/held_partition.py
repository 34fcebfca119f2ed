"""Processes one partition of ``webhooks.held``: counts the waiting deliveries, reports the numbers, and releases deliveries that
no longer need to wait.

Deliveries stay in the topic. When Kafka has the results of a hundred released ones, the progress of their endpoints is recorded
(`HealthFact.HELD`), so at most a hundred are sent twice if the process dies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Final

from consumers.held_values import HeldContext, ReleasedDelivery, endpoint_id_of, fact_of, reported_of
from consumers.partition_processors import in_turn, offset_bound_of
from pipeline.broker.api import Record
from pipeline.core.held_ledger import HeldLedger, OffsetBound, ReportedHeld
from pipeline.core.rate_limit import RateLimit
from pipeline.delivery.holding import HeldAction, action_for, warning_lead_time
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from schemas.codec import to_json
from schemas.operational import OPERATIONAL_ENDPOINT_ID

log = logger(__name__)

CHUNK: Final = 100
"""How many deliveries are released together: this many may be sent twice if the process dies."""
CHECK_SECONDS: Final = 0.25
"""How often it checks whether an endpoint was resumed."""
_NOTHING_HELD_SECONDS: Final = 5.0
"""The same while nothing is held. New deliveries are seen immediately."""
REPORT_SECONDS: Final = 1.0
"""How often counts are reported."""
_MAX_REPORTED: Final = 200
"""For how many endpoints counts are reported at a time; the others follow."""
_PASS_SECONDS: Final = 2.0
"""How long waiting deliveries are examined before new ones are read."""
_AHEAD_SECONDS: Final = 1.0
"""How far ahead of its endpoint's rate limit a delivery is released: it waits for that long in the next step."""
_CLOCK: Final = b"clock"
"""The key of records without a value: their timestamp is the time of the broker's clock."""


class HeldPartition:
    """One partition during one assignment. Used from the event loop only."""

    def __init__(self, context: HeldContext, partition: int) -> None:
        self._context = context
        self._partition = partition
        self._hold_ms = round(context.hold / timedelta(milliseconds=1))
        self._ledger = HeldLedger({})
        self._is_counted = False
        self._is_stopping = False
        self._last_reported = 0
        """The endpoint whose count was reported last."""
        self._paces: dict[int, RateLimit] = {}
        self._reported_at = self._clock_asked_at = 0.0
        self._latest_at = time.monotonic()
        self._committed: int | None = None

    async def run(self) -> None:
        """Process the partition until it is revoked (the task is cancelled), or until :meth:`stop`."""
        self._ledger = HeldLedger(await self._read_reported())
        consumer, ledger = self._context.consumer, self._ledger
        while not self._is_stopping:
            wait = CHECK_SECONDS if ledger.waiting or not self._is_counted else _NOTHING_HELD_SECONDS
            fetched = await consumer.fetch(self._partition, ledger.position, wait)
            await self._count(fetched.records)
            ledger.position = max(fetched.next, ledger.position or 0)
            if fetched.is_end and not self._is_counted:
                self._all_is_counted()
            await self._release_due()
            if time.monotonic() - self._reported_at >= REPORT_SECONDS:
                await self._report_counts()
            self._commit()

    def stop(self) -> None:
        """Finish what has started, and end."""
        self._is_stopping = True

    @property
    def held(self) -> int:
        """How many deliveries wait."""
        return self._ledger.total

    @property
    def expiring(self) -> int:
        """For how many endpoints the oldest expires soon."""
        threshold_ms = self._now_ms() + warning_lead_time(self._context.hold) / timedelta(milliseconds=1) - self._hold_ms
        return sum(one.since_ms <= threshold_ms for one in self._ledger.waiting.values())

    # --- counting ---

    async def _read_reported(self) -> dict[int, ReportedHeld]:
        """What earlier processors have reported. It includes everything that the previous owner of the partition wrote."""
        context = self._context
        while True:
            try:
                mark = await context.producer.send(
                    context.topics.endpoint_health, key=f"held/{self._partition}".encode(), value=None
                )
                await context.health.table.wait_for(mark.offset)
            except TimeoutError:
                if times := context.repeats.times("health"):
                    log.warning("the endpoints' health cannot be read; no held delivery is released until it can", times=times)
            else:
                return {one: reported_of(fact) for one, fact in context.health.held_in(self._partition).items()}

    async def _count(self, records: Iterable[Record]) -> None:
        """Note new records. Deliveries that need not wait are released immediately, unless earlier ones of the endpoint wait."""
        chunk: list[ReleasedDelivery] = []
        ledger = self._ledger
        before = ledger.latest_ms
        for record in records:
            place = offset_bound_of(record)
            if record.value is None:
                ledger.skip(place)
                continue
            endpoint_id = endpoint_id_of(record)
            if not ledger.add(endpoint_id, place):
                continue
            action = self._action(endpoint_id, place)
            if self._may_go(endpoint_id, action):
                await self._release(chunk, ReleasedDelivery(endpoint_id, record, action))
            else:
                ledger.wait(endpoint_id, place)
        if ledger.latest_ms > before:
            self._latest_at = time.monotonic()
        await self._carry_out(chunk)

    def _all_is_counted(self) -> None:
        self._is_counted = True
        self._lost(self._ledger.missing())

    def _lost(self, found: dict[int, int]) -> None:
        for endpoint_id, count in found.items():
            metrics.HELD_LOST.inc(count)
            log.error(
                "held deliveries are not in Kafka any more: its retention or somebody removed them",
                endpoint_id=endpoint_id,
                count=count,
                topic=self._context.topics.held,
                partition=self._partition,
            )

    # --- releasing ---

    async def _release_due(self) -> None:
        """Release waiting deliveries that no longer need to wait."""
        await self._refresh_broker_time()
        ledger = self._ledger
        wanted = {
            one for one, waiting in ledger.waiting.items() if self._is_due(one, OffsetBound(waiting.first, waiting.since_ms))
        }
        if not wanted or ledger.position is None:
            return
        at = min(ledger.waiting[one].first for one in wanted)
        until = time.monotonic() + _PASS_SECONDS
        while at < ledger.position and wanted & ledger.waiting.keys():
            if self._is_stopping or time.monotonic() > until:
                return
            fetched = await self._context.consumer.fetch(self._partition, at, 0.0)
            await self._release_from(wanted, (record for record in fetched.records if record.offset < ledger.position))
            at = fetched.next
        self._lost(ledger.give_up(wanted))

    async def _release_from(self, wanted: set[int], records: Iterable[Record]) -> None:
        """An endpoint whose next delivery has to wait (again) is removed from ``wanted``."""
        chunk: list[ReleasedDelivery] = []
        for record in records:
            endpoint_id, place = endpoint_id_of(record), offset_bound_of(record)
            if endpoint_id not in wanted or record.value is None or not self._ledger.is_next(endpoint_id, place):
                continue
            action = self._action(endpoint_id, place)
            if self._may_go(endpoint_id, action):
                self._ledger.take(endpoint_id, place)
                await self._release(chunk, ReleasedDelivery(endpoint_id, record, action))
            else:
                self._ledger.stay(endpoint_id, place)
                wanted.discard(endpoint_id)
        await self._carry_out(chunk)

    def _action(self, endpoint_id: int, place: OffsetBound) -> HeldAction:
        registry = self._context.registry
        if endpoint_id == OPERATIONAL_ENDPOINT_ID:
            return HeldAction.RELEASE
        return action_for(
            registry.receiver(endpoint_id),
            self._partition,
            place,
            is_deleted=registry.is_deleted(endpoint_id),
            is_too_old=place.time_ms + self._hold_ms <= self._ledger.latest_ms and self._context.is_time_certain(),
        )

    def _is_due(self, endpoint_id: int, place: OffsetBound) -> bool:
        action = self._action(endpoint_id, place)
        pace = self._paces.get(endpoint_id)
        return action is not HeldAction.WAIT and (
            action is not HeldAction.RELEASE or pace is None or pace.wait(time.monotonic()) < _AHEAD_SECONDS / 2
        )

    def _may_go(self, endpoint_id: int, action: HeldAction) -> bool:
        """Whether a delivery may be released now. An endpoint with a rate limit gets no more than that."""
        if action is not HeldAction.RELEASE:
            return action is not HeldAction.WAIT
        endpoint = self._context.registry.receiver(endpoint_id)
        limit = None if endpoint is None else endpoint.record.max_per_second
        if limit is None:
            self._paces.pop(endpoint_id, None)
            return True
        pace = self._paces.get(endpoint_id)
        if pace is None or pace.per_second != limit:
            pace = self._paces[endpoint_id] = RateLimit(limit)
        return pace.spend(time.monotonic(), _AHEAD_SECONDS)

    async def _release(self, chunk: list[ReleasedDelivery], released: ReleasedDelivery) -> None:
        chunk.append(released)
        if len(chunk) >= CHUNK:
            await self._carry_out(chunk)
            chunk.clear()

    async def _carry_out(self, chunk: list[ReleasedDelivery]) -> None:
        """Release deliveries, and record that when Kafka has the results."""
        if not chunk:
            return
        context = self._context
        # If the process was frozen, another one may own the partition by now. The poll thread finds out.
        while not context.consumer.is_member_certain:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await context.until_there_is_room()
        await asyncio.gather(*map(context.release, chunk))
        for released in chunk:
            self._ledger.leave(released.endpoint_id, released.place)
        await self._write_down({released.endpoint_id for released in chunk})

    async def _refresh_broker_time(self) -> None:
        """Held deliveries expire by the broker's clock. If something may be too old by now, ask the broker for the time."""
        ledger, now = self._ledger, time.monotonic()
        if not ledger.waiting or now - self._clock_asked_at < REPORT_SECONDS:
            return
        due_ms = min(one.since_ms for one in ledger.waiting.values()) + self._hold_ms
        is_known = bool(self._clock_asked_at)  # the latest record read may be days old
        if is_known and not ledger.latest_ms < due_ms <= self._now_ms():
            return
        self._clock_asked_at = now
        await self._context.producer.send(self._context.topics.held, key=_CLOCK, value=None, partition=self._partition)

    def _now_ms(self) -> float:
        """The approximate time of the broker's clock."""
        return self._ledger.latest_ms + (time.monotonic() - self._latest_at) * 1000

    # --- reporting ---

    async def _report_counts(self) -> None:
        """Report how many deliveries wait, if that has changed, or if a previous owner woke up late and reported another number."""
        self._reported_at = time.monotonic()
        if not self._is_counted:
            return
        ledger = self._ledger
        for endpoint_id, fact in self._context.health.held_in(self._partition).items():
            if (fact.held, fact.done) != (ledger.count(endpoint_id), ledger.done(endpoint_id).offset):
                ledger.changed.add(endpoint_id)
        chosen = in_turn(ledger.changed, self._last_reported, _MAX_REPORTED)
        self._last_reported = chosen[-1] if chosen else self._last_reported
        await self._write_down(set(chosen))

    async def _write_down(self, endpoint_ids: set[int]) -> None:
        context = self._context
        if not endpoint_ids:
            return
        facts = [fact_of(context, self._partition, self._ledger, one) for one in endpoint_ids]
        self._ledger.changed -= endpoint_ids
        written = await asyncio.gather(
            *(context.producer.send(context.topics.endpoint_health, key=one.key, value=to_json(one)) for one in facts)
        )
        with suppress(TimeoutError):  # then it is reported again
            await context.health.table.wait_for(max(position.offset for position in written))

    def _commit(self) -> None:
        floor = self._ledger.floor
        if floor is not None and floor != self._committed:
            self._committed = floor
            self._context.consumer.commit(self._partition, floor)
