"""The checks before a request: the endpoint's circuit, its rate limit or ramp, and its concurrency limit."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from types import TracebackType

from pipeline.core.circuit import Circuit, CircuitLimits, CircuitPermit, CircuitState, HealthSign, sign_of
from pipeline.core.exchange import Exchange
from pipeline.core.rate_limit import RateLimit
from pipeline.core.recovery_ramp import RampLimits, RecoveryRamp
from pipeline.core.retry import asked_for
from pipeline.endpoints.endpoint import Endpoint
from pipeline.ops import metrics
from pipeline.sender.concurrency_limiter import ConcurrencyLimiter, ConcurrencySlot

PARKED_WHILE_DOWN = timedelta(hours=1)
"""The longest that a delivery to an endpoint that is down is parked at a time, however often it was parked before. With 100,000
parked deliveries, 28 records a second are rewritten. When the endpoint is back, the last deliveries arrive within this time."""
PARKED_WHILE_BUSY = timedelta(minutes=10)
"""The same for an endpoint that works, but has more deliveries than it can handle or may get: it must not run idle."""

RAMP_WAIT_SECONDS = 5.0
"""How long a delivery may wait for its turn on a ramp: as long as the shortest delay for which it could be parked."""
_CHECK_SECONDS = 0.25
MIN_SHARE = 0.01
"""The least share of a rate that a process gets, so that there is always a next turn."""

Current = Callable[[int], Endpoint | None]
ReportedCircuit = Callable[[Endpoint], tuple[CircuitState, float] | None]
"""What another process last reported about an endpoint's circuit, and for how many more seconds it is open; None: nothing."""
CircuitChanged = Callable[[Endpoint, CircuitState, float], None]
"""Called when a circuit opens or closes, with the seconds until an open one is probed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a delivery must be parked, as one word for the metrics, and for how long: ``at_least``, and at most ``longest``."""

    reason: str
    longest: timedelta
    at_least: timedelta = timedelta(0)
    is_recovery: bool = False
    """Whether the delivery returns when its turn is expected, regardless of how often it was parked."""


UNUSABLE = Refusal("endpoint_unusable", PARKED_WHILE_DOWN)
_AT_ITS_BOUND = Refusal("endpoint_at_its_bound", PARKED_WHILE_BUSY)
_RATE_LIMITED = Refusal("rate_limited", PARKED_WHILE_BUSY)


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """``longest_wait``: seconds that a delivery may wait for its turn under a rate limit.

    ``max_waiting``: how many deliveries may wait at once (each holds a Kafka record), at most a quarter of them for one endpoint.
    ``ramp``: how an endpoint that has recovered gets its backlog; None: all at once.
    """

    circuit: CircuitLimits
    longest_wait: float
    max_waiting: int
    ramp: RampLimits | None = None


@dataclass(frozen=True, slots=True)
class OtherProcesses:
    """Reports of other processes: the ``circuit`` of an endpoint; and the ``share`` of its rate that they leave to this one."""

    share: Callable[[int], float] = lambda _: 1.0
    circuit: ReportedCircuit = lambda _: None


class Admission:
    """One per process."""

    def __init__(
        self,
        limiter: ConcurrencyLimiter,
        limits: AdmissionLimits,
        *,
        on_change: CircuitChanged,
        clock: Callable[[], float] = time.monotonic,
        current: Current | None = None,
        other_processes: OtherProcesses | None = None,
    ) -> None:
        """``current`` returns an endpoint as it is now: the one in a delivery may be outdated. ``clock``: monotonic seconds."""
        self._limiter = limiter
        self._limits = limits.circuit
        self._longest_wait = limits.longest_wait
        self._most_waiting = limits.max_waiting
        self._waiting = 0
        self._on_change = on_change
        self._clock = clock
        self._current = current
        self._circuits: dict[int, tuple[int, Circuit]] = {}
        self._paces: dict[int, Pace] = {}
        self._other_processes = other_processes or OtherProcesses()
        self._ramp_limits = limits.ramp
        self._ramps: dict[int, RecoveryRamp] = {}

    async def enter(self, endpoint: Endpoint) -> Pass | Refusal:
        """A pass for one request, to be released after it; or the reason for a refusal."""
        if endpoint.problem is not None:
            return UNUSABLE
        # Before any wait: a delivery that must not be sent takes no slot and uses up none of the rate.
        if (refused_for := self._circuit(endpoint).refuses(self._clock())) is not None:
            return _circuit_open(refused_for)
        slot = await self._slot(endpoint)
        if isinstance(slot, Refusal):
            return slot
        circuit = self._circuit(endpoint)  # it may have opened meanwhile
        before, now = circuit.state, self._clock()
        ticket = circuit.start(now)
        if ticket is None:
            with slot:
                return _circuit_open(circuit.refuses(now) or 0.0)
        _count_transition(before, circuit.state)
        return Pass(self, endpoint, slot, circuit, ticket)

    def current(self, endpoint: Endpoint) -> Endpoint | None:
        """An endpoint as it is now; None if it was deleted."""
        return endpoint if self._current is None else self._current(endpoint.id)

    @property
    def slow_endpoints(self) -> int:
        """The number of slow endpoints with requests in flight."""
        return self._limiter.slow_endpoints

    def forget(self, endpoint_id: int) -> None:
        """Forget the circuit and the pace of an endpoint that was deleted, paused or disabled, because nothing is sent to it."""
        self._paces.pop(endpoint_id, None)
        self._ramps.pop(endpoint_id, None)
        self._limiter.forget(endpoint_id)
        _, circuit = self._circuits.pop(endpoint_id, (0, None))
        if circuit is not None and circuit.state is not CircuitState.CLOSED:
            metrics.CIRCUITS.labels(circuit.state.value).dec()

    def ended(self, endpoint: Endpoint, circuit: Circuit, ticket: CircuitPermit, exchange: Exchange, at: datetime) -> None:
        """A request has ended: see `Pass.end`."""
        if not self._is_current(endpoint, circuit):
            return
        before, now = circuit.state, self._clock()
        asked = asked_for(exchange, at) if exchange.status in _MAY_ASK else None
        sign = sign_of(exchange)
        circuit.end(ticket, sign, now, asked.total_seconds() if asked is not None else None)
        if self._ramps and (ramp := self._ramps.get(endpoint.id)) is not None:
            ramp.failed() if sign is HealthSign.FAILED else ramp.answered()
        if circuit.state is not before:
            self._changed(endpoint.id, before, circuit)
            self._on_change(endpoint, circuit.state, circuit.open_for(now))

    def abandoned(self, endpoint: Endpoint, circuit: Circuit, ticket: CircuitPermit) -> None:
        """A request was not made."""
        if self._is_current(endpoint, circuit):
            before = circuit.state
            circuit.abandon(ticket)
            _count_transition(before, circuit.state)

    def apply_reported_circuits(self, endpoint_ids: Iterable[int]) -> None:
        """Take over what other processes report about these endpoints' circuits, unless this process knows better."""
        for endpoint_id in endpoint_ids:
            known = self._circuits.get(endpoint_id)
            endpoint = None if known is None or self._current is None else self._current(endpoint_id)
            if known is not None and endpoint is not None and endpoint.record.activated_version == known[0]:
                self._apply_reported_circuit(endpoint, known[1])

    def _apply_reported_circuit(self, endpoint: Endpoint, circuit: Circuit, *, is_new: bool = False) -> None:
        report = self._other_processes.circuit(endpoint)
        if report is None:
            return
        before, (state, seconds) = circuit.state, report
        if state is CircuitState.CLOSED:
            circuit.remote_closed(self._clock())
        else:
            circuit.remote_opened(seconds, self._clock(), is_new=is_new)
        if circuit.state is not before:
            self._changed(endpoint.id, before, circuit)

    def begin_ramp(self, endpoint_id: int) -> None:
        """The endpoint has recovered (its circuit closed, or it was resumed). Its backlog is sent at a rising rate."""
        if self._ramp_limits is not None and self._is_sent_to(endpoint_id):
            self._ramps[endpoint_id] = RecoveryRamp(self._ramp_limits, self._clock())

    def _changed(self, endpoint_id: int, before: CircuitState, circuit: Circuit) -> None:
        _count_transition(before, circuit.state)
        if circuit.state is CircuitState.OPEN:
            self._ramps.pop(endpoint_id, None)
        elif circuit.state is CircuitState.CLOSED and not circuit.is_remote:  # otherwise there is no backlog
            self.begin_ramp(endpoint_id)

    async def _slot(self, endpoint: Endpoint) -> ConcurrencySlot | Refusal:
        """A concurrency slot of the endpoint, once its rate allows a request; or why the delivery must be parked."""
        turn: Pace | Refusal | None = None
        if endpoint.record.max_per_second is not None or endpoint.id in self._ramps:
            turn = await self._turn(endpoint)
        if isinstance(turn, Refusal):
            return turn
        if turn is None:
            return await self._limiter.enter(endpoint.id) or _AT_ITS_BOUND
        return await self._paced_slot(endpoint.id, turn)

    async def _paced_slot(self, endpoint_id: int, turn: Pace) -> ConcurrencySlot | Refusal:
        """Delayed requests start one after another, not all together, whether they waited here or for a slot."""
        has_started = False
        try:
            slot = await self._limiter.enter(endpoint_id)
            if slot is None:
                return _AT_ITS_BOUND
            try:
                has_started = await turn.begin()
            finally:
                if not has_started:
                    slot.__exit__(None, None, None)
            return slot if has_started else _RATE_LIMITED
        finally:
            if not has_started:
                turn.limit.withdraw()

    async def _turn(self, endpoint: Endpoint) -> Refusal | Pace | None:
        """Wait for the endpoint's next turn, or return why the delivery must be parked. None: it has no rate limit and no ramp."""
        limit, now = endpoint.record.max_per_second, self._clock()
        ramp = self._ramps.get(endpoint.id)
        if ramp is not None and ramp.is_over(limit, now):
            ramp = None
            del self._ramps[endpoint.id]
        if ramp is None and limit is None:
            self._paces.pop(endpoint.id, None)
            return None
        share = max(MIN_SHARE, self._other_processes.share(endpoint.id))
        rate = share * limit if limit is not None else math.inf
        longest = self._longest_wait
        if ramp is not None:
            rate, longest = min(rate, ramp.arrive(share, now)), max(longest, RAMP_WAIT_SECONDS)
        longest = 0.0 if self._waiting >= self._most_waiting else min(longest, self._most_waiting / 4 / rate)
        pace = self._pace(endpoint.id, rate, now)
        wait = pace.limit.reserve(now, longest)
        if wait is None:
            metrics.RATE_LIMITED.labels("parked").inc()
            return _RATE_LIMITED if ramp is None else _recovering(ramp.postpone(share))
        if wait:
            metrics.RATE_LIMITED.labels("waited").inc()
            self._waiting += 1
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:
                pace.limit.withdraw()
                raise
            finally:
                self._waiting -= 1
        return pace

    def _pace(self, endpoint_id: int, per_second: float, now: float) -> Pace:
        pace = self._paces.get(endpoint_id)
        if pace is None:
            pace = Pace(RateLimit(per_second), self._clock)
            if self._is_sent_to(endpoint_id):
                self._paces[endpoint_id] = pace
        else:
            pace.limit.change(per_second, now)
        return pace

    def _circuit(self, endpoint: Endpoint) -> Circuit:
        activated, known = endpoint.record.activated_version, self._circuits.get(endpoint.id)
        # An endpoint that was activated again, perhaps with another URL, gets a new circuit. A delivery may hold the old endpoint.
        if known is not None and known[0] >= activated:
            return known[1]
        if known is not None and known[1].state is not CircuitState.CLOSED:
            _count_transition(known[1].state, CircuitState.CLOSED)
            self.begin_ramp(endpoint.id)
        circuit = Circuit(self._limits)
        if self._is_sent_to(endpoint.id):  # otherwise it would never be forgotten
            self._circuits[endpoint.id] = activated, circuit
            # Reported by a process that may have exited: this process does not need to find out again.
            self._apply_reported_circuit(endpoint, circuit, is_new=True)
        return circuit

    def _is_sent_to(self, endpoint_id: int) -> bool:
        endpoint = None if self._current is None else self._current(endpoint_id)
        return self._current is None or (endpoint is not None and endpoint.active)

    def _is_current(self, endpoint: Endpoint, circuit: Circuit) -> bool:
        known = self._circuits.get(endpoint.id)
        return known is not None and known[1] is circuit


class Pace:
    """The rate of one endpoint. Requests start in the order in which they call :meth:`begin`."""

    __slots__ = ("_clock", "_order", "limit")

    def __init__(self, limit: RateLimit, clock: Callable[[], float]) -> None:
        self.limit = limit
        self._clock = clock
        self._order = asyncio.Lock()

    async def begin(self) -> bool:
        """Wait until a request with a turn may start; False if the rate has dropped so far that this would take too long."""
        asked_at = self._clock()
        async with self._order:
            now = self._clock()
            while (wait := self.limit.begin(now)) > 0.0:
                if now + wait - asked_at > RAMP_WAIT_SECONDS and now - asked_at >= _CHECK_SECONDS:
                    return False
                pause = min(wait, _CHECK_SECONDS)  # others may change the rate
                await asyncio.sleep(pause)
                now = max(self._clock(), now + pause)
        return True


class Pass:
    """Lets one request through, in a ``with`` block."""

    __slots__ = ("_admission", "_circuit", "_endpoint", "_has_ended", "_slot", "_ticket")

    def __init__(
        self, admission: Admission, endpoint: Endpoint, slot: ConcurrencySlot, circuit: Circuit, ticket: CircuitPermit
    ) -> None:
        self._admission = admission
        self._endpoint = endpoint
        self._slot = slot
        self._circuit = circuit
        self._ticket = ticket
        self._has_ended = False

    def __enter__(self) -> Pass:
        return self

    def start(self) -> None:
        """The request starts: from now on, time counts against the endpoint."""
        self._slot.start()

    def end(self, exchange: Exchange, at: datetime) -> None:
        """The request has ended. ``at``: when, to interpret a date in Retry-After."""
        self._has_ended = True
        self._admission.ended(self._endpoint, self._circuit, self._ticket, exchange, at)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if not self._has_ended:
            self._admission.abandoned(self._endpoint, self._circuit, self._ticket)
        self._slot.__exit__(kind, error, traceback)


_MAY_ASK = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


def _circuit_open(seconds: float) -> Refusal:
    return Refusal("circuit_open", PARKED_WHILE_DOWN, timedelta(seconds=seconds))


def _recovering(seconds: float) -> Refusal:
    return Refusal("recovering", timedelta(0), min(timedelta(seconds=seconds), PARKED_WHILE_BUSY), is_recovery=True)


def _count_transition(before: CircuitState, after: CircuitState) -> None:
    if before is after:
        return
    metrics.CIRCUIT_TRANSITIONS.labels(after.value).inc()
    if before is not CircuitState.CLOSED:
        metrics.CIRCUITS.labels(before.value).dec()
    if after is not CircuitState.CLOSED:
        metrics.CIRCUITS.labels(after.value).inc()
