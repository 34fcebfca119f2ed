"""Watches how endpoints do, tells the other processes, and disables an endpoint that is gone or has failed for too long.

What happens when the process dies between two writes: an operational event is written first, the fact that disables the endpoint
second, and the input is finished last. Should only the event be written, the delivery is made again: when the endpoint
has failed again, the same event is written (its id says which endpoint and which activation), and the fact after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus

from pipeline.broker.api import Position
from pipeline.broker.producer import Producer
from pipeline.core.circuit import CircuitState, Sign, sign_of
from pipeline.core.exchange import Exchange, Response
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.health import HealthTable
from pipeline.ops import metrics
from pipeline.ops.clock import Clock
from pipeline.ops.logs import logger
from schemas.health import DisabledReason, HealthFact, HealthRecord
from schemas.operational import ENDPOINT_DISABLED, OPERATIONAL_ENDPOINT_ID, DisabledEndpoint, OperationalEvent
from schemas.topics import Topics

log = logger(__name__)

TELL_EVERY_SECONDS = 10.0
"""The same fact of one endpoint is written at most so often: an endpoint that fails and works by turns costs little."""

_Key = tuple[int, HealthFact]


@dataclass(slots=True)
class _Told:
    """What this process has said last, or will say when it may. ``offset`` is where it stands, once Kafka has it."""

    record: HealthRecord
    offset: int | None = None


class Watch:
    """One per process that delivers. Used from the event loop only."""

    def __init__(
        self,
        health: HealthTable,
        producer: Producer,
        topics: Topics,
        clock: Clock,
        *,
        disable_after: timedelta,
        tell_every_seconds: float = TELL_EVERY_SECONDS,
        is_time_certain: Callable[[], bool] = lambda: True,
    ) -> None:
        """``is_time_certain``: an endpoint is not disabled for failing too long by a clock that may be wrong."""
        self._is_time_certain = is_time_certain
        self._health = health
        self._producer = producer
        self._topics = topics
        self._clock = clock
        self._disable_after = disable_after
        self._tell_every_seconds = tell_every_seconds
        self._told: dict[_Key, _Told] = {}
        self._quiet: dict[_Key, asyncio.TimerHandle] = {}
        """Facts that were written a short while ago: what is to be said meanwhile waits for the timer."""
        self._disabling: dict[tuple[int, int], asyncio.Task[None]] = {}
        for reason in DisabledReason:  # counted from 0 on: Prometheus sees no rise from nothing to 1
            metrics.ENDPOINTS_DISABLED.labels(reason.value)

    def close(self) -> None:
        """Say nothing more."""
        for timer in self._quiet.values():
            timer.cancel()
        self._quiet.clear()

    def ended(self, endpoint: Endpoint, exchange: Exchange) -> Awaitable[None] | None:
        """Take note of how an attempt ended. What it returns must be awaited before the attempt's input is finished."""
        is_acknowledged = sign_of(exchange) is Sign.ACKNOWLEDGED
        if is_acknowledged and not self._health.knows(endpoint.id) and not self._told:
            return None  # as a rule: this is on the way of every delivery
        if endpoint.id == OPERATIONAL_ENDPOINT_ID:  # it must not be told of its own failures, nor be disabled
            return None
        if isinstance(exchange, Response) and exchange.status == HTTPStatus.GONE:
            return self._disable(endpoint, DisabledReason.GONE, "The endpoint answered 410 (Gone).")
        since = self._failing_since(endpoint)
        if is_acknowledged:
            if since is not None:
                self._tell(endpoint, HealthFact.FAILING)
            circuit = self._known(endpoint, HealthFact.CIRCUIT)
            if circuit is not None and circuit.circuit != CircuitState.CLOSED:  # told by a process that may be gone
                self._tell(endpoint, HealthFact.CIRCUIT, circuit=CircuitState.CLOSED.value)
            return None
        now = self._clock()
        if since is None:
            self._tell(endpoint, HealthFact.FAILING, since=now)
        elif now - since >= self._disable_after and self._is_time_certain():
            detail = f"The endpoint has failed since {since:%Y-%m-%d %H:%M} UTC without any success."
            return self._disable(endpoint, DisabledReason.FAILING, detail)
        return None

    def circuit_changed(self, endpoint: Endpoint, state: CircuitState, seconds: float) -> None:
        """Tell of a circuit that has opened, for so many seconds, or closed."""
        if endpoint.id != OPERATIONAL_ENDPOINT_ID:
            until = self._clock() + timedelta(seconds=seconds) if state is CircuitState.OPEN else None
            self._tell(endpoint, HealthFact.CIRCUIT, circuit=state.value, until=until)
            log.info("a circuit has changed", endpoint_id=endpoint.id, circuit=state.value, seconds=round(seconds, 1))

    def _failing_since(self, endpoint: Endpoint) -> datetime | None:
        known = self._known(endpoint, HealthFact.FAILING)
        return known.since if known is not None else None

    def _known(self, endpoint: Endpoint, fact: HealthFact) -> HealthRecord | None:
        """As this process has said, until that can be read; then as the topic has it, where others write too."""
        key = (endpoint.id, fact)
        told = self._told.get(key)
        if told is not None and told.offset is not None and self._health.offset(*key) >= told.offset:
            told = None
            del self._told[key]
        if told is None:
            return self._health.fact(endpoint.record, fact)
        return told.record if told.record.endpoint_version >= endpoint.record.activated_version else None

    def _tell(
        self,
        endpoint: Endpoint,
        fact: HealthFact,
        *,
        since: datetime | None = None,
        circuit: str = "",
        until: datetime | None = None,
    ) -> None:
        """Write a fact, now or when its quiet time is over; a newer one takes the place of one that waits."""
        record = HealthRecord(
            endpoint_id=endpoint.id,
            endpoint_version=endpoint.record.version,
            fact=fact,
            at=self._clock(),
            since=since,
            circuit=circuit,
            until=until,
        )
        key = (endpoint.id, fact)
        self._told[key] = _Told(record)
        if key not in self._quiet:
            self._write(key)

    def _write(self, key: _Key) -> None:
        told = self._told[key]
        loop = asyncio.get_running_loop()
        self._quiet[key] = loop.call_later(self._tell_every_seconds, self._quiet_is_over, key, told)
        acknowledged = self._producer.send(
            self._topics.endpoint_health, key=told.record.key, value=told.record.model_dump_json().encode()
        )
        acknowledged.add_done_callback(lambda done: self._written(told, done))

    def _quiet_is_over(self, key: _Key, written: _Told) -> None:
        del self._quiet[key]
        told = self._told.get(key)
        if told is not None and told is not written:
            self._write(key)

    def _written(self, told: _Told, acknowledged: asyncio.Future[Position]) -> None:
        if acknowledged.cancelled():
            return
        if error := acknowledged.exception():
            # Nothing depends on it but what is shown, and when the endpoint is disabled; the next change is told again.
            log.error("the health of an endpoint could not be told", endpoint_id=told.record.endpoint_id, error=str(error))
            told.offset = -1
        else:
            told.offset = acknowledged.result().offset

    def _disable(self, endpoint: Endpoint, reason: DisabledReason, detail: str) -> Awaitable[None]:
        """Once for each activation, however many deliveries find out at the same time."""
        key = (endpoint.id, endpoint.record.activated_version)
        task = self._disabling.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._disabling[key] = asyncio.create_task(self._disable_now(endpoint, reason, detail))
        return asyncio.shield(task)

    async def _disable_now(self, endpoint: Endpoint, reason: DisabledReason, detail: str) -> None:
        if self._health.disabled(endpoint.record) is not None:
            return
        now = self._clock()
        event = OperationalEvent(
            id=f"{ENDPOINT_DISABLED.replace('.', '-')}_{endpoint.id}_{endpoint.record.activated_version}",
            event_name=ENDPOINT_DISABLED,
            occurred_at=now,
            data=DisabledEndpoint(
                id=endpoint.id,
                target_url=endpoint.target_url,
                description=endpoint.record.description,
                reason=reason.value,
                detail=detail,
                disabled_at=now,
                failing_since=self._failing_since(endpoint),
            ),
        )
        fact = HealthRecord(
            endpoint_id=endpoint.id,
            endpoint_version=endpoint.record.version,
            fact=HealthFact.DISABLED,
            at=now,
            reason=reason.value,
            detail=detail,
        )
        event_key = str(endpoint.id).encode()
        await self._producer.send(self._topics.operational_events, key=event_key, value=event.model_dump_json().encode())
        await self._producer.send(self._topics.endpoint_health, key=fact.key, value=fact.model_dump_json().encode())
        metrics.ENDPOINTS_DISABLED.labels(reason.value).inc()
        log.warning("an endpoint was disabled", endpoint_id=endpoint.id, reason=reason.value, detail=detail)
