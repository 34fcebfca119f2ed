"""The held deliveries: what is due for an endpoint that is paused or disabled waits in ``webhooks.held`` until it is resumed.

A partition of the topic has one keeper at a time (group ``webhooks.held``). What it lets go of goes to the topic of what is due at once,
where the retry takes it; what somebody dropped, whose endpoint was deleted, or what has waited for ``hold_days``, ends on record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from consumers.held_keeper import Keeper
from consumers.held_values import Leaving, Surroundings
from pipeline.broker.api import Broker
from pipeline.broker.browser import Browser
from pipeline.broker.producer import Producer
from pipeline.core.trace import trace_context
from pipeline.delivery.courier import Courier
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.holding import Fate, drop_of
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import Registry
from pipeline.ops import metrics
from pipeline.ops.clock import Clock
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from schemas.attempt import Outcome
from schemas.codec import InvalidRecordError, format_time, from_header
from schemas.delivery import DELIVERY_HEADER, Delivery
from schemas.topics import delay_label

log = logger(__name__)

_AT_ONCE: Final = timedelta(0)
_LONGEST_WAIT_S: Final = 1.0
_LOOK_AGAIN_S: Final = 0.02


class HeldDeliveries:
    """Runs beside the retry. Start it when the registry has caught up, not before."""

    def __init__(
        self,
        settings: Settings,
        *,
        broker: Broker,
        registry: Registry,
        health: HealthTable,
        producer: Producer,
        courier: Courier,
        dead_letters: DeadLetters,
        clock: Clock,
        backlog: Callable[[], int],
        is_time_certain: Callable[[], bool],
    ) -> None:
        """``backlog``: how many records the retry of this process has in hand. ``is_time_certain``: without that, nothing expires."""
        self._registry = registry
        self._producer = producer
        self._courier = courier
        self._dead_letters = dead_letters
        self._backlog = backlog
        self._most_in_hand = settings.max_outstanding_records // 2
        self._at_once = settings.topics.delay(_AT_ONCE)
        self._scheduled = metrics.RETRIES_SCHEDULED.labels(delay_label(_AT_ONCE))
        self._hold_days = settings.hold_days
        self._keepers: dict[int, tuple[Keeper, asyncio.Task[None]]] = {}
        self._browser = Browser(
            broker,
            group=settings.topics.held_group,
            topic=settings.topics.held,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
        )
        self._around = Surroundings(
            browser=self._browser,
            producer=producer,
            registry=registry,
            health=health,
            topics=settings.topics,
            hold=timedelta(days=settings.hold_days),
            clock=clock,
            is_time_certain=is_time_certain,
            let_go=self._let_go,
            until_there_is_room=self._until_there_is_room,
        )

    async def start(self) -> None:
        """Join the group."""
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Holds the error that ended the work."""
        metrics.HELD.set_function(lambda: float(sum(keeper.held for keeper, _ in self._keepers.values())))
        metrics.HELD_EXPIRING.set_function(lambda: float(sum(keeper.expiring for keeper, _ in self._keepers.values())))
        await self._browser.start()
        self._browser.stopped.add_done_callback(self._ended)

    async def stop(self, drain_seconds: float) -> None:
        """Finish what was begun, commit, leave the group."""
        tasks = [task for _, task in self._keepers.values()]
        for keeper, _ in self._keepers.values():
            keeper.stop()
        if tasks:
            await asyncio.wait(tasks, timeout=drain_seconds)
        try:
            await self._browser.stop()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._keepers.clear()

    def problem(self) -> str | None:
        """Why nothing held can be let go of (for health checks). While it is being counted, other work goes on."""
        return self._browser.problem()

    # --- partitions come and go ---

    def _assigned(self, partitions: frozenset[int]) -> None:
        for number in partitions - self._keepers.keys():
            keeper = Keeper(self._around, number)
            task = asyncio.create_task(keeper.run())
            task.add_done_callback(self._ended)
            self._keepers[number] = keeper, task

    def _revoked(self, partitions: frozenset[int]) -> None:
        for number in partitions & self._keepers.keys():
            self._keepers.pop(number)[1].cancel()

    def _ended(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled() and (error := done.exception()) and not self.failed.done():
            log.error("the held deliveries cannot be kept", error=repr(error), exc_info=error)
            self.failed.set_exception(error)

    # --- letting go ---

    async def _until_there_is_room(self) -> None:
        """Wait a moment while the retry has much in hand: its other work is not to wait behind all that was held."""
        until = time.monotonic() + _LONGEST_WAIT_S
        while self._backlog() > self._most_in_hand and time.monotonic() < until:  # noqa: ASYNC110 - it is a consumer's counter
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _let_go(self, leaving: Leaving) -> None:
        record, fate = leaving.record, leaving.fate
        body = record.value or b""
        if fate is Fate.RELEASE:
            await self._producer.room(len(body))
            self._scheduled.inc()
            # As it came: what a newer release wrote into it is kept, and the retry sets aside what cannot be used.
            await self._producer.send(self._at_once, key=record.key, value=body, headers=record.headers, spread=True)
            metrics.RELEASED.inc()
            return
        try:
            delivery = from_header(record.headers, DELIVERY_HEADER, Delivery)
        except InvalidRecordError as error:
            await self._dead_letters.send(record, error.reason, str(error))
            return
        endpoint = self._registry.get(leaving.endpoint_id)
        kind, reason, outcome = self._why(leaving, endpoint)
        await self._courier.discard(
            delivery.event,
            delivery.endpoint_id,
            endpoint.target_url if endpoint is not None else "",
            attempt=delivery.attempt,
            trigger=delivery.trigger,
            reason=reason,
            kind=kind,
            trace=trace_context(delivery.traceparent, delivery.tracestate),
            outcome=outcome,
        )

    def _why(self, leaving: Leaving, endpoint: Endpoint | None) -> tuple[str, str, Outcome]:
        """Why an attempt is not made: as a word and as a sentence; and what that is called."""
        if leaving.fate is Fate.EXPIRE:
            reason = f"It was held for {self._hold_days:g} days (hold_days): the endpoint was not resumed in that time."
            return "expired", reason, Outcome.EXPIRED
        drop = None
        if endpoint is not None:
            drop = drop_of(endpoint.record, leaving.record.partition.number, leaving.place)
        if drop is not None:
            reason = f"It was held for the endpoint, and dropped by {drop.dropped_by} at {format_time(drop.dropped_at)}."
            return "dropped", reason, Outcome.DISCARDED
        return "endpoint_deleted", "The endpoint was deleted while this attempt was held for it.", Outcome.DISCARDED
