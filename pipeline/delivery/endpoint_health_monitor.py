"""Monitors and reports the health of endpoints, and disables those that are gone or have failed for too long.

The order of writes matters if the process dies in between: first the operational event, then the fact that disables the endpoint,
then the attempt's input is committed. If only the event was written, the delivery is made again. If the endpoint fails again, the
same event is written again (its id contains the endpoint and the activation), and then the fact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from msgspec import Raw

from pipeline.broker.api import Position
from pipeline.broker.producer import Producer
from pipeline.core.circuit import CircuitState, HealthSign, sign_of
from pipeline.core.exchange import Exchange, Response
from pipeline.core.failing_stages import stages_reached, stages_to_notify
from pipeline.delivery.owner_notices import OwnerNotices
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.health import HealthTable
from pipeline.ops import metrics
from pipeline.ops.clock import Clock
from pipeline.ops.logs import logger
from schemas.codec import to_json
from schemas.health import DisabledReason, HealthFact, HealthRecord
from schemas.operational import ENDPOINT_DISABLED, OPERATIONAL_ENDPOINT_ID, DisabledEndpoint, OperationalEvent
from schemas.topics import Topics

log = logger(__name__)

MIN_REPORT_SECONDS = 10.0
"""The shortest time between two writes of the same fact of one endpoint, so that an unsteady endpoint costs little."""

CIRCUIT_EVERY_SECONDS = 1.0
"""The same for circuits: other processes must learn of them quickly."""

_RECOVERED = "recovered"
_Key = tuple[int, HealthFact]


@dataclass(slots=True)
class _WrittenFact:
    """The last record of a fact. ``is_sent``: it does not wait for the timer. ``offset``: once Kafka has acknowledged it."""

    record: HealthRecord
    is_sent: bool = False
    offset: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FailingLimits:
    """How long an endpoint must have failed without any success before its owner is told (``notify_after``) and it is disabled.

    A fact about an endpoint is written at most once every ``report_every_seconds``.
    """

    disable_after: timedelta
    notify_after: timedelta = timedelta(hours=1)
    report_every_seconds: float = MIN_REPORT_SECONDS


class EndpointHealthMonitor:
    """One per process that delivers. Used from the event loop only."""

    def __init__(
        self,
        health: HealthTable,
        producer: Producer,
        topics: Topics,
        clock: Clock,
        *,
        limits: FailingLimits,
        is_time_certain: Callable[[], bool] = lambda: True,
    ) -> None:
        """``is_time_certain``: while the clock may be wrong, no endpoint is disabled for failing too long."""
        self._is_time_certain = is_time_certain
        self._health = health
        self._producer = producer
        self._topics = topics
        self._clock = clock
        self._limits = limits
        self.notices = OwnerNotices(producer, topics.operational_events, clock, disable_after=limits.disable_after)
        self._noticing: dict[tuple[int, str, datetime], asyncio.Task[None]] = {}
        """Notices that are being written, by endpoint, stage, and the start of the failures."""
        self.process = uuid4().hex
        """Identifies this process to the others."""
        self._written_facts: dict[_Key, _WrittenFact] = {}
        self._quiet: dict[_Key, asyncio.TimerHandle] = {}
        """Facts that were written recently: a newer record of such a fact waits for the timer."""
        self._disabling: dict[tuple[int, int], asyncio.Task[None]] = {}
        for reason in DisabledReason:  # start at 0: Prometheus does not see an increase from nothing to 1
            metrics.ENDPOINTS_DISABLED.labels(reason.value)

    def close(self) -> None:
        """Write the facts that still wait. Otherwise, an endpoint that has recovered would count as failing until its next success.

        The producer must still be open.
        """
        for key, timer in self._quiet.items():
            timer.cancel()
            self._send_if_waiting(key)
        self._quiet.clear()

    def forget(self, endpoint_id: int) -> None:
        """Write no more facts about this endpoint, because it was deleted."""
        for fact in HealthFact:
            self._written_facts.pop((endpoint_id, fact), None)
            if (timer := self._quiet.pop((endpoint_id, fact), None)) is not None:
                timer.cancel()
        for key in [key for key in self._disabling if key[0] == endpoint_id]:
            del self._disabling[key]

    def record_result(self, endpoint: Endpoint, exchange: Exchange) -> Awaitable[None] | None:
        """Record the result of an attempt. The returned awaitable must be awaited before the attempt's input is finished."""
        is_acknowledged = sign_of(exchange) is HealthSign.ACKNOWLEDGED
        if is_acknowledged and not self._health.knows(endpoint.id) and not self._written_facts:
            return None  # the usual case, kept cheap: every delivery comes here
        if endpoint.id == OPERATIONAL_ENDPOINT_ID:  # it must not get events about its own failures, and must not be disabled
            return None
        if isinstance(exchange, Response) and exchange.status == HTTPStatus.GONE:
            return self._disable(endpoint, DisabledReason.GONE, "The endpoint returned 410 (Gone).")
        return self._acknowledged(endpoint) if is_acknowledged else self._failed(endpoint)

    def _acknowledged(self, endpoint: Endpoint) -> Awaitable[None] | None:
        recovered = None
        failing = self._known(endpoint, HealthFact.FAILING)
        if failing is not None and failing.since is not None:
            if failing.told:
                recovered = self._once(endpoint, _RECOVERED, failing.since, self._recovered(endpoint, failing.since))
            else:
                self._write_fact(endpoint, HealthFact.FAILING)
        circuit = self._known(endpoint, HealthFact.CIRCUIT)
        if circuit is not None and circuit.circuit != CircuitState.CLOSED:  # reported by a process that may be gone
            self._write_fact(endpoint, HealthFact.CIRCUIT, circuit=CircuitState.CLOSED.value)
        return recovered

    def _failed(self, endpoint: Endpoint) -> Awaitable[None] | None:
        failing, now = self._known(endpoint, HealthFact.FAILING), self._clock()
        since = failing.since if failing is not None else None
        if failing is None or since is None:
            self._write_fact(endpoint, HealthFact.FAILING, since=now)
        elif now - since >= self._limits.disable_after and self._is_time_certain():
            detail = f"The endpoint has been failing since {since:%Y-%m-%d %H:%M} UTC, without any success."
            return self._disable(endpoint, DisabledReason.FAILING, detail)
        elif self._is_time_certain():
            stages = stages_reached(now - since, self._limits.notify_after, self._limits.disable_after)
            if stages_to_notify(stages, failing.told):
                return self._once(endpoint, stages[-1], since, self._notify_owner(endpoint, since, stages, failing.told))
        return None

    def _once(self, endpoint: Endpoint, what: str, since: datetime, notice: Coroutine[Any, Any, None]) -> Awaitable[None]:
        """Write a notice once, even if many deliveries find out at the same time. If that fails, the next delivery tries again."""
        key = (endpoint.id, what, since)
        task = self._noticing.get(key)
        if task is None:
            task = self._noticing[key] = asyncio.create_task(notice)
            task.add_done_callback(lambda _: self._noticing.pop(key, None))
        else:
            notice.close()
        return asyncio.shield(task)

    async def _notify_owner(
        self, endpoint: Endpoint, since: datetime, stages: tuple[str, ...], notified: tuple[str, ...]
    ) -> None:
        """Write the events, then record that they were written. After a crash in between, they are written again with the same ids."""
        for stage in stages_to_notify(stages, notified):
            await self.notices.stage(endpoint, since, stage)
            log.warning(
                "the owner of a failing endpoint was told", endpoint_id=endpoint.id, stage=stage, failing_since=since.isoformat()
            )
        known = self._known(endpoint, HealthFact.FAILING)
        if known is not None and known.since == since:  # otherwise it has recovered meanwhile
            self._write_fact(endpoint, HealthFact.FAILING, since=since, notified=stages)

    async def _recovered(self, endpoint: Endpoint, since: datetime) -> None:
        await self.notices.recovered(endpoint, since)
        log.info("a failing endpoint has recovered", endpoint_id=endpoint.id, failing_since=since.isoformat())
        known = self._known(endpoint, HealthFact.FAILING)
        if known is not None and known.since == since:
            self._write_fact(endpoint, HealthFact.FAILING)

    def reported_circuit(self, endpoint: Endpoint) -> tuple[CircuitState, float] | None:
        """What another process last reported about the endpoint's circuit, and for how many more seconds it is open.

        None: nothing, or this process has reported a newer state.
        """
        known = self._known(endpoint, HealthFact.CIRCUIT)
        if known is None or known.process == self.process or endpoint.id == OPERATIONAL_ENDPOINT_ID:
            return None
        if known.circuit == CircuitState.CLOSED:
            return CircuitState.CLOSED, 0.0
        seconds = (known.until - self._clock()).total_seconds() if known.until is not None else 0.0
        return CircuitState.OPEN, max(0.0, seconds)

    def circuit_changed(self, endpoint: Endpoint, state: CircuitState, seconds: float) -> None:
        """Report a circuit that has closed, or opened for this many seconds."""
        if endpoint.id != OPERATIONAL_ENDPOINT_ID:
            until = self._clock() + timedelta(seconds=seconds) if state is CircuitState.OPEN else None
            before = self._known(endpoint, HealthFact.CIRCUIT)
            self._write_fact(endpoint, HealthFact.CIRCUIT, circuit=state.value, until=until)
            # For each endpoint that is down, a failed probe opens the circuit again every few minutes.
            log_at_level = log.debug if before is not None and before.circuit == state.value else log.info
            log_at_level("a circuit has changed", endpoint_id=endpoint.id, circuit=state.value, seconds=round(seconds, 1))

    def _failing_since(self, endpoint: Endpoint) -> datetime | None:
        known = self._known(endpoint, HealthFact.FAILING)
        return known.since if known is not None else None

    def _known(self, endpoint: Endpoint, fact: HealthFact) -> HealthRecord | None:
        """The fact as this process wrote it, until it has been read back; then as it is in the topic, where others write too."""
        key = (endpoint.id, fact)
        written = self._written_facts.get(key)
        if written is not None and written.offset is not None and self._health.offset(*key) >= written.offset:
            written = None
            del self._written_facts[key]
        if written is None:
            return self._health.fact(endpoint.record, fact)
        return written.record if written.record.endpoint_version >= endpoint.record.activated_version else None

    def _write_fact(
        self,
        endpoint: Endpoint,
        fact: HealthFact,
        *,
        since: datetime | None = None,
        circuit: str = "",
        until: datetime | None = None,
        notified: tuple[str, ...] = (),
    ) -> None:
        """Write a fact, now or when its quiet time is over. A newer record replaces one that waits."""
        record = HealthRecord(
            endpoint_id=endpoint.id,
            endpoint_version=endpoint.record.version,
            fact=fact,
            at=self._clock(),
            since=since,
            circuit=circuit,
            until=until,
            told=notified,
            process=self.process if fact is HealthFact.CIRCUIT else "",
        )
        key = (endpoint.id, fact)
        self._written_facts[key] = _WrittenFact(record)
        if key not in self._quiet:
            self._write(key)

    def _write(self, key: _Key) -> None:
        """Write a fact that waits, and begin its quiet time."""
        if self._send_if_waiting(key):
            quiet = self._limits.report_every_seconds
            if key[1] is HealthFact.CIRCUIT:
                quiet = min(quiet, CIRCUIT_EVERY_SECONDS)
            self._quiet[key] = asyncio.get_running_loop().call_later(quiet, self._quiet_is_over, key)

    def _quiet_is_over(self, key: _Key) -> None:
        del self._quiet[key]
        self._write(key)

    def _send_if_waiting(self, key: _Key) -> bool:
        written = self._written_facts.get(key)
        if written is None or written.is_sent:
            return False
        written.is_sent = True
        acknowledged = self._producer.send(self._topics.endpoint_health, key=written.record.key, value=to_json(written.record))
        acknowledged.add_done_callback(lambda done: self._written(written, done))
        return True

    def _written(self, written: _WrittenFact, acknowledged: asyncio.Future[Position]) -> None:
        if acknowledged.cancelled():
            return
        if error := acknowledged.exception():
            # It only affects what is shown, and when the endpoint is disabled; the next change is written anyway.
            log.error("the health of an endpoint could not be written", endpoint_id=written.record.endpoint_id, error=str(error))
            written.offset = -1
        else:
            written.offset = acknowledged.result().offset

    def _disable(self, endpoint: Endpoint, reason: DisabledReason, detail: str) -> Awaitable[None]:
        """Disable the endpoint once for each activation, even if many deliveries find out at the same time."""
        key = (endpoint.id, endpoint.record.activated_version)
        task = self._disabling.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._disabling[key] = asyncio.create_task(self._disable_now(endpoint, reason, detail))
        return asyncio.shield(task)

    async def _disable_now(self, endpoint: Endpoint, reason: DisabledReason, detail: str) -> None:
        if self._health.disabled(endpoint.record) is not None:
            return
        now = self._clock()
        data = DisabledEndpoint(
            id=endpoint.id,
            target_url=endpoint.target_url,
            description=endpoint.record.description,
            reason=reason.value,
            detail=detail,
            disabled_at=now,
            failing_since=self._failing_since(endpoint),
        )
        event = OperationalEvent(
            id=f"{ENDPOINT_DISABLED.replace('.', '-')}_{endpoint.id}_{endpoint.record.activated_version}",
            event_name=ENDPOINT_DISABLED,
            occurred_at=now,
            data=Raw(to_json(data)),
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
        await self._producer.send(self._topics.operational_events, key=event_key, value=to_json(event))
        await self._producer.send(self._topics.endpoint_health, key=fact.key, value=to_json(fact))
        metrics.ENDPOINTS_DISABLED.labels(reason.value).inc()
        log.warning("an endpoint was disabled", endpoint_id=endpoint.id, reason=reason.value, detail=detail)
