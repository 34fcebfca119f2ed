"""Processes one partition of ``webhooks.ordered``: makes the deliveries of each lane one after the other, and those of different
lanes concurrently.

A lane is one endpoint and one record key. The attempt of its head is made in place; a failure is retried after the delay of the
endpoint's policy, and later deliveries wait. The progress of a lane is written to ``webhooks.ordered-progress``, in the partition
of the same number, **before** the next delivery starts. So if a processor dies, at most the head of each lane is repeated.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import timedelta
from typing import Final

from msgspec import structs

from consumers.ordered_values import BodyCache, HeldBack, OrderedContext, source_of
from consumers.partition_processors import in_turn, offset_bound_of
from consumers.waiting_lanes import WaitingLanes
from pipeline.broker.api import Record
from pipeline.core.held_ledger import OffsetBound
from pipeline.core.lane_ledger import LaneLedger, Placement, Source
from pipeline.core.outcome import RetryLater
from pipeline.core.trace import trace_context
from pipeline.delivery.delivery import AttemptResult, DiscardedDelivery, ParkedDelivery, delivery_of
from pipeline.endpoints.endpoint import Endpoint
from pipeline.ops import metrics
from pipeline.ops.logs import logger
from schemas.attempt import Outcome
from schemas.codec import InvalidRecordError, from_header, to_json
from schemas.delivery import DELIVERY_HEADER, DeadLetterReason, DeliveryRecord, Trigger
from schemas.lane_progress import LaneProgress

log = logger(__name__)

CHECK_SECONDS: Final = 0.25
"""How often it checks what is due, and whether an endpoint was resumed."""
_NOTHING_WAITS_SECONDS: Final = 5.0
"""The same while nothing waits. New deliveries are seen immediately."""
REPORT_SECONDS: Final = 5.0
TIDY_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 3600.0
"""How long an idle lane is remembered: if a fan-out writes an event again within that time, it is not sent again."""
_MAX_REPORTED: Final = 200
_CACHE_BYTES: Final = 4 * 1024 * 1024
_GRACE: Final = timedelta(days=6)
"""How much later than ``hold_days`` deliveries to an active endpoint expire. Kafka keeps the topic for two days more, so they are
recorded as expired before Kafka removes them.
"""


class OrderedPartition:
    """One partition during one assignment. Used from the event loop only."""

    def __init__(self, context: OrderedContext, partition: int) -> None:
        self._context = context
        self._partition = partition
        self._ledger = LaneLedger({})
        self._position: int | None = None
        """Where to continue reading; None: at the committed offset."""
        self._is_loaded = self._is_stopping = False
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bodies = BodyCache(_CACHE_BYTES)
        self._ready: deque[bytes] = deque()
        self._busy: set[bytes] = set()
        """Lanes whose head is being tried, or whose progress is being written."""
        self._wanted: dict[int, bytes] = {}
        """Heads to read again, by their offsets."""
        self._waiting_lanes = WaitingLanes(context)
        self._tasks: set[asyncio.Task[None]] = set()
        self._was_at_end = False
        self._reported_at = self._tidied_at = context.steady()
        self._last_reported = 0
        """The endpoint that was reported last."""
        self._settled = 0
        self._committed: int | None = None

    async def run(self) -> None:
        """Process the partition until it is revoked (the task is cancelled), or until :meth:`stop`."""
        in_flight = self._context.in_flight
        in_flight.on_room.add(self._start_ready)
        try:
            while not self._is_stopping:
                await self._turn()
            if self._tasks:
                await asyncio.wait(self._tasks)
            self._check()
            self._commit()
        finally:
            in_flight.on_room.discard(self._start_ready)
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        """Finish what has started, and end."""
        self._is_stopping = True

    @property
    def waiting(self) -> int:
        """How many deliveries have not ended, including those that are being made."""
        return self._ledger.waiting.total()

    @property
    def held_back(self) -> int:
        """In how many lanes the head waits for its next attempt, or for its endpoint."""
        return len(self._waiting_lanes)

    @property
    def heads(self) -> list[HeldBack]:
        """What blocks lanes."""
        return self._waiting_lanes.heads

    @property
    def ready(self) -> int:
        """In how many lanes the head is being tried, or could be."""
        return self._ledger.lanes - len(self._waiting_lanes)

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest waiting head has been waiting, by the broker's clock; 0 if none waits."""
        since = min((one.since_ms for one in self.heads), default=None)
        return 0.0 if since is None else max(0.0, self._context.now_ms() - since) / 1000

    @property
    def overdue_seconds(self) -> float:
        """By how much a delivery has waited longer than all retries of its endpoint take, at most; 0 if none has."""
        return self._waiting_lanes.overdue_seconds()

    @property
    def expiring(self) -> int:
        """For how many endpoints that are not active the oldest delivery expires soon."""
        return self._waiting_lanes.expiring()

    async def _turn(self) -> None:
        self._check()
        self._ready.extend(self._waiting_lanes.over())
        self._start_ready()
        again = await self._read_again()
        wait = CHECK_SECONDS if self.waiting else _NOTHING_WAITS_SECONDS
        fetched = await self._context.consumer.fetch(self._partition, self._position, 0.0 if again else wait)
        if fetched.records and not self._is_loaded:
            self._ledger = LaneLedger(await self._context.load(self._partition))
            self._is_loaded = True
        for record in fetched.records:
            if self._position is None or record.offset >= self._position:
                await self._add(record, is_new=True)
        self._position = max(fetched.next, self._position or 0)
        self._was_at_end = self._was_at_end or fetched.is_end
        self._start_ready()
        if self._context.steady() - self._reported_at >= REPORT_SECONDS:
            await self._report_waiting()
        if self._context.steady() - self._tidied_at >= TIDY_SECONDS:
            await self._tidy()
        self._commit()

    def _head(self, key: bytes) -> OffsetBound:
        """The offset and time of the head of a lane in which something waits."""
        head = self._ledger.head(key)
        if head is None:
            raise KeyError(key)
        return head

    def _check(self) -> None:
        if self._failed.done():
            self._failed.result()

    # --- reading ---

    async def _add(self, record: Record, *, is_new: bool) -> None:
        """Note a record. ``is_new``: it is read for the first time."""
        ledger = self._ledger
        try:
            key, due = _read(record)
        except InvalidRecordError as error:
            if is_new:
                await self._context.dead_letters.send(record, error.reason, str(error))
                ledger.skip(record.offset)
            return
        add = ledger.add if is_new else ledger.add_again
        placement = add(key, due.endpoint_id, offset_bound_of(record), source_of(due))
        if placement in (Placement.HEAD, Placement.WAITING):
            self._bodies.put(record)
        if placement is Placement.HEAD and key not in self._busy:
            self._schedule_head(key, due)

    def _schedule_head(self, key: bytes, due: DeliveryRecord) -> None:
        """A lane has a new head and is not busy: start the head, or let it wait for its next attempt."""
        progress = self._ledger.attempt(key)
        if progress is None:
            self._ready.append(key)
            return
        now = self._context.broker_seconds()
        seconds = progress.delay_ms / 1000
        if now is not None:  # no wait is longer than the delay, whatever a clock says
            seconds = min(progress.due_ms / 1000 - now, seconds)
        self._waiting_lanes.wait(key, due, self._head(key), "retry", seconds)

    async def _read_again(self) -> bool:
        """Read what is needed and not in memory: heads, then deliveries whose offsets are not kept. Returns whether it read."""
        ledger, consumer = self._ledger, self._context.consumer
        if self._wanted and self._context.in_flight.has_room:
            first = min(self._wanted)
            fetched = await consumer.fetch(self._partition, first, 0.0)
            for record in fetched.records:
                key = self._wanted.pop(record.offset, None)
                if key is not None and key not in self._busy and _stands_at(ledger.head(key), record):
                    self._start(key, record)
            # Only what was asked for: other heads may have become wanted meanwhile.
            for offset in [one for one in self._wanted if first <= one < fetched.next]:
                await self._lost(self._wanted.pop(offset))
            return True
        for endpoint_id in list(ledger.overflows):
            if ledger.has_room(endpoint_id):
                fetched = await consumer.fetch(self._partition, ledger.overflows[endpoint_id].first, 0.0)
                for record in fetched.records:
                    if record.offset < (ledger.position or 0) and _is_for(record, endpoint_id):
                        await self._add(record, is_new=False)
                ledger.read_again(endpoint_id, min(fetched.next, ledger.position or 0))
                return True
        return False

    async def _lost(self, key: bytes) -> None:
        """Kafka no longer has the head; the consumer has reported that. The lane continues."""
        self._busy.add(key)
        log.error(
            "a delivery that waited in order is no longer in Kafka",
            lane=key.decode(errors="replace"),
            partition=self._partition,
        )
        await self._finish(key, None)

    # --- attempts ---

    def _start_ready(self) -> None:
        """Start attempts while there is room."""
        while self._ready and self._context.in_flight.has_room and not self._is_stopping:
            key = self._ready.popleft()
            head = self._ledger.head(key)
            if head is None or key in self._busy:
                continue
            record = self._bodies.pop(head.offset)
            if record is None:
                self._wanted[head.offset] = key
            else:
                self._start(key, record)

    def _start(self, key: bytes, record: Record) -> None:
        size = record.size
        self._busy.add(key)
        self._context.in_flight.begin(size)
        task = asyncio.create_task(self._process(key, record))
        self._tasks.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._tasks.discard(done)
            if not done.cancelled() and (error := done.exception()) is not None and not self._failed.done():
                self._failed.set_exception(error)
            self._context.in_flight.end(size)

        task.add_done_callback(ended)

    async def _process(self, key: bytes, record: Record) -> None:
        """Process the head of a lane."""
        context = self._context
        if not await self._is_ours():
            return
        due = self._as_due(key, from_header(record.headers, DELIVERY_HEADER, DeliveryRecord))
        endpoint = context.registry.receiver(due.endpoint_id)
        trace = trace_context(due.traceparent, due.tracestate)
        if (discarded := self._discarded(due, endpoint, record)) is not None:
            await context.service.settle(discarded, in_place=True)
            await self._end(key, due)
            return
        if endpoint is None or not endpoint.active:
            self._block(key, due, record)
            return
        outcome = await context.service.outcome(delivery_of(due, record.value or b"", endpoint, trace))
        await context.service.settle(outcome, in_place=True)
        if isinstance(outcome, AttemptResult) and not isinstance(outcome.verdict, RetryLater):
            await self._end(key, due)
            return
        self._bodies.put(record)
        if isinstance(outcome, ParkedDelivery):
            self._busy.discard(key)
            self._waiting_lanes.park(key, due, self._head(key), outcome)
        elif isinstance(outcome, AttemptResult) and isinstance(outcome.verdict, RetryLater):
            await self._retry(key, due, outcome.verdict.delay)
        else:  # it was paused just now
            self._block(key, due, record)

    async def _retry(self, key: bytes, due: DeliveryRecord, delay: timedelta) -> None:
        delay_ms = round(delay / timedelta(milliseconds=1))
        await self._write(key, self._ledger.retry(key, due.attempt + 1, round(self._context.now_ms()) + delay_ms, delay_ms))
        self._busy.discard(key)
        self._waiting_lanes.retry(key, due, self._head(key), delay_ms / 1000)

    def _block(self, key: bytes, due: DeliveryRecord, record: Record) -> None:
        self._bodies.put(record)
        self._busy.discard(key)
        self._waiting_lanes.block(key, due, self._head(key))

    def _as_due(self, key: bytes, due: DeliveryRecord) -> DeliveryRecord:
        """The delivery, with the number of its next attempt and how often it was parked."""
        parked = self._waiting_lanes.parked(key)
        progress = self._ledger.attempt(key)
        if progress is None:
            return structs.replace(due, parked=parked)
        trigger = Trigger.RESEND if due.trigger is Trigger.RESEND else Trigger.RETRY
        return structs.replace(due, attempt=progress.attempt, trigger=trigger, parked=parked)

    def _discarded(self, due: DeliveryRecord, endpoint: Endpoint | None, record: Record) -> DiscardedDelivery | None:
        """Why no attempt is made; None if one is made."""
        context = self._context
        trace = trace_context(due.traceparent, due.tracestate)
        if endpoint is None:
            if not context.registry.is_deleted(due.endpoint_id):
                return None
            reason = "The endpoint was deleted while this delivery waited in order."
            return DiscardedDelivery(due, "", "endpoint_deleted", reason, trace)
        hold = context.hold + (_GRACE if endpoint.active else timedelta(0))
        if self._context.now_ms() - record.timestamp_ms >= hold / timedelta(milliseconds=1) and context.is_time_certain():
            days = hold / timedelta(days=1)
            unit = "day" if days == 1 else "days"
            reason = f"It waited in order for {days:g} {unit}, the longest that a delivery may (hold_days)."
            return DiscardedDelivery(due, endpoint.target_url, "expired", reason, trace, Outcome.EXPIRED)
        if endpoint.active and due.trigger is not Trigger.RESEND and due.event.event_name not in endpoint.events:
            reason = "The endpoint was no longer subscribed to this event type when it was this delivery's turn."
            return DiscardedDelivery(due, endpoint.target_url, "not_subscribed", reason, trace)
        return None

    async def _end(self, key: bytes, due: DeliveryRecord) -> None:
        """The head has ended, and this is recorded: write the progress, then continue the lane."""
        await self._finish(key, source_of(due))

    async def _finish(self, key: bytes, source: Source | None) -> None:
        progress = self._ledger.finish(key, source, self._context.steady())
        await self._write(key, progress)
        self._ledger.settle(progress)
        metrics.ORDERED_ENDED.inc()
        self._continue_lane(key)

    def _continue_lane(self, key: bytes) -> None:
        """The progress of a lane is written: its next delivery may start, if there is one."""
        self._waiting_lanes.ended(key)
        self._busy.discard(key)
        if self._ledger.head(key) is not None:
            self._ready.append(key)

    async def _write(self, key: bytes, progress: LaneProgress) -> None:
        if not await self._is_ours():  # another process has taken over, and its progress is newer
            await asyncio.get_running_loop().create_future()
        topic = self._context.topics.ordered_progress
        await self._context.producer.send(topic, key=key, value=to_json(progress), partition=self._partition)

    async def _is_ours(self) -> bool:
        """Whether this process still owns the partition. If not, the calling task is about to be cancelled.

        A process that was frozen does not know immediately: the poll thread finds out.
        """
        while not self._context.consumer.is_member_certain:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return self._context.consumer.is_assigned(self._partition)

    # --- reporting, forgetting ---

    async def _report_waiting(self) -> None:
        """Report how many deliveries wait, for which endpoints and why, if that has changed."""
        self._reported_at = self._context.steady()
        if not self._was_at_end:
            return
        topic, producer = self._context.topics.endpoint_health, self._context.producer
        facts = {fact.endpoint_id: fact for fact in self._waiting_lanes.facts(self._ledger, self._partition)}
        chosen = in_turn(facts, self._last_reported, _MAX_REPORTED)
        self._last_reported = chosen[-1] if chosen else self._last_reported
        await asyncio.gather(*(producer.send(topic, key=facts[one].key, value=to_json(facts[one])) for one in chosen))

    async def _tidy(self) -> None:
        """Forget idle lanes: their progress is deleted from Kafka."""
        self._tidied_at = self._context.steady()
        found = self._ledger.forgettable(self._tidied_at - IDLE_SECONDS, self._settled)
        # At the next check it will have been committed for at least a minute: a successor starts to read there.
        self._settled = self._committed or 0
        topic = self._context.topics.ordered_progress
        gone = [key for key in found if key not in self._busy and self._ledger.forget(key)]
        self._ledger.evict_idle(self._tidied_at - IDLE_SECONDS)
        # A lane that becomes active meanwhile waits: its progress must not be written before the tombstone.
        self._busy.update(gone)
        await asyncio.gather(
            *(self._context.producer.send(topic, key=key, value=None, partition=self._partition) for key in gone)
        )
        for key in gone:
            self._continue_lane(key)

    def _commit(self) -> None:
        floor = self._ledger.floor if self._is_loaded else None
        if floor is not None and floor != self._committed:
            self._committed = floor
            self._context.consumer.commit(self._partition, floor)


def _read(record: Record) -> tuple[bytes, DeliveryRecord]:
    """The key of the lane, and the delivery.

    Raises:
        InvalidRecordError: the record is a dead letter.
    """
    due = from_header(record.headers, DELIVERY_HEADER, DeliveryRecord)
    if record.value is None:
        raise InvalidRecordError(DeadLetterReason.NULL_VALUE, "The delivery has no body.")
    if record.key is None or not _is_for(record, due.endpoint_id):
        raise InvalidRecordError(DeadLetterReason.INVALID_RECORD, "The key names no lane of the delivery's endpoint.")
    return record.key, due


def _stands_at(place: OffsetBound | None, record: Record) -> bool:
    return place is not None and place.offset == record.offset


def _is_for(record: Record, endpoint_id: int) -> bool:
    return (record.key or b"").startswith(f"{endpoint_id}/".encode())
