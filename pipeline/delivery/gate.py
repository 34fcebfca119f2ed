"""What a delivery must pass before its request: the endpoint's circuit, its rate limit, and room in its lane."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from types import TracebackType

from pipeline.core.circuit import Circuit, CircuitLimits, CircuitState, Ticket, sign_of
from pipeline.core.exchange import Exchange
from pipeline.core.outcome import asked_for
from pipeline.core.pace import Pace
from pipeline.endpoints.endpoint import Endpoint
from pipeline.ops import metrics
from pipeline.sender.lanes import Lanes, Place

PARKED_WHILE_DOWN = timedelta(hours=1)
"""The longest that deliveries to an endpoint that is down are put off at a time, however often they were before: with a hundred
thousand of them, that is 28 records a second to be written anew. When it is back, the last ones arrive within that time."""
PARKED_WHILE_BUSY = timedelta(minutes=10)
"""The same for an endpoint that works and has more to do than it can or may: it is to be kept at work."""

Current = Callable[[int], Endpoint | None]
CircuitChanged = Callable[[Endpoint, CircuitState, float], None]
"""Told when a circuit opens or closes, with the seconds until an open one is probed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a delivery must be parked: as a word for the metrics; for how long at least, and at most."""

    reason: str
    longest: timedelta
    at_least: timedelta = timedelta(0)


_UNUSABLE = Refusal("endpoint_unusable", PARKED_WHILE_DOWN)
_AT_ITS_BOUND = Refusal("endpoint_at_its_bound", PARKED_WHILE_BUSY)
_RATE_LIMITED = Refusal("rate_limited", PARKED_WHILE_BUSY)


class Gate:
    """One per process."""

    def __init__(
        self,
        lanes: Lanes,
        limits: CircuitLimits,
        *,
        longest_wait: float,
        most_waiting: int,
        on_change: CircuitChanged,
        clock: Callable[[], float] = time.monotonic,
        current: Current | None = None,
    ) -> None:
        """``current`` gives an endpoint as it is now: what a delivery holds may have been paused or deleted meanwhile.

        ``longest_wait``: seconds that a delivery may wait for its turn under a rate limit. ``clock``: seconds that only rise.

        ``most_waiting``: deliveries that may wait so at once (each holds a record of Kafka's), a quarter of them for one endpoint.
        """
        self._lanes = lanes
        self._limits = limits
        self._longest_wait = longest_wait
        self._most_waiting = most_waiting
        self._waiting = 0
        self._on_change = on_change
        self._clock = clock
        self._current = current
        self._circuits: dict[int, tuple[int, Circuit]] = {}
        self._paces: dict[int, Pace] = {}

    async def enter(self, endpoint: Endpoint) -> Pass | Refusal:
        """A pass for one request, to be left again; or why there is none."""
        if endpoint.problem is not None:
            return _UNUSABLE
        # Before anything waits: what must not be sent holds no place and uses up no rate.
        if (refused_for := self._circuit(endpoint).refuses(self._clock())) is not None:
            return _circuit_open(refused_for)
        if endpoint.record.max_per_second is not None and not await self._in_turn(endpoint.id, endpoint.record.max_per_second):
            return _RATE_LIMITED
        place = await self._lanes.enter(endpoint.id)
        if place is None:
            return _AT_ITS_BOUND
        circuit = self._circuit(endpoint)  # it may have opened meanwhile
        before, now = circuit.state, self._clock()
        ticket = circuit.start(now)
        if ticket is None:
            with place:
                return _circuit_open(circuit.refuses(now) or 0.0)
        _count_transition(before, circuit.state)
        return Pass(self, endpoint, place, circuit, ticket)

    def forget(self, endpoint_id: int) -> None:
        """Nothing is sent to this endpoint any more (it was deleted, paused or disabled): its circuit and its pace are of no use."""
        self._paces.pop(endpoint_id, None)
        _, circuit = self._circuits.pop(endpoint_id, (0, None))
        if circuit is not None and circuit.state is not CircuitState.CLOSED:
            metrics.CIRCUITS.labels(circuit.state.value).dec()

    def ended(self, endpoint: Endpoint, circuit: Circuit, ticket: Ticket, exchange: Exchange, at: datetime) -> None:
        """A request has ended: see `Pass.end`."""
        if not self._is_current(endpoint, circuit):
            return
        before, now = circuit.state, self._clock()
        asked = asked_for(exchange, at) if exchange.status in _MAY_ASK else None
        circuit.end(ticket, sign_of(exchange), now, asked.total_seconds() if asked is not None else None)
        if circuit.state is not before:
            _count_transition(before, circuit.state)
            self._on_change(endpoint, circuit.state, circuit.open_for(now))

    def abandoned(self, endpoint: Endpoint, circuit: Circuit, ticket: Ticket) -> None:
        """A request was not made."""
        if self._is_current(endpoint, circuit):
            before = circuit.state
            circuit.abandon(ticket)
            _count_transition(before, circuit.state)

    async def _in_turn(self, endpoint_id: int, per_second: int) -> bool:
        pace = self._paces.get(endpoint_id)
        if pace is None or pace.per_second != per_second:
            pace = Pace(per_second)
            if self._is_sent_to(endpoint_id):
                self._paces[endpoint_id] = pace
        is_full = self._waiting >= self._most_waiting
        wait = pace.reserve(self._clock(), 0.0 if is_full else min(self._longest_wait, self._most_waiting / 4 / per_second))
        if wait is None:
            metrics.RATE_LIMITED.labels("parked").inc()
            return False
        if wait:
            metrics.RATE_LIMITED.labels("waited").inc()
            self._waiting += 1
            try:
                await asyncio.sleep(wait)
            finally:
                self._waiting -= 1
        return True

    def _circuit(self, endpoint: Endpoint) -> Circuit:
        activated, known = endpoint.record.activated_version, self._circuits.get(endpoint.id)
        # One that was activated anew, perhaps with another URL, begins anew. (A delivery may still hold the endpoint as it was.)
        if known is not None and known[0] >= activated:
            return known[1]
        if known is not None:
            _count_transition(known[1].state, CircuitState.CLOSED)
        circuit = Circuit(self._limits)
        if self._is_sent_to(endpoint.id):  # else it would never be forgotten
            self._circuits[endpoint.id] = activated, circuit
        return circuit

    def _is_sent_to(self, endpoint_id: int) -> bool:
        endpoint = None if self._current is None else self._current(endpoint_id)
        return self._current is None or (endpoint is not None and endpoint.active)

    def _is_current(self, endpoint: Endpoint, circuit: Circuit) -> bool:
        known = self._circuits.get(endpoint.id)
        return known is not None and known[1] is circuit


class Pass:
    """Lets one request through, in a ``with`` block."""

    __slots__ = ("_circuit", "_endpoint", "_gate", "_has_ended", "_place", "_ticket")

    def __init__(self, gate: Gate, endpoint: Endpoint, place: Place, circuit: Circuit, ticket: Ticket) -> None:
        self._gate = gate
        self._endpoint = endpoint
        self._place = place
        self._circuit = circuit
        self._ticket = ticket
        self._has_ended = False

    def __enter__(self) -> Pass:
        return self

    def start(self) -> None:
        """The request starts: from now on it is the endpoint that takes the time."""
        self._place.start()

    def end(self, exchange: Exchange, at: datetime) -> None:
        """The request has ended, ``at`` this time (to read a date in Retry-After)."""
        self._has_ended = True
        self._gate.ended(self._endpoint, self._circuit, self._ticket, exchange, at)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if not self._has_ended:
            self._gate.abandoned(self._endpoint, self._circuit, self._ticket)
        self._place.__exit__(kind, error, traceback)


_MAY_ASK = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


def _circuit_open(seconds: float) -> Refusal:
    return Refusal("circuit_open", PARKED_WHILE_DOWN, timedelta(seconds=seconds))


def _count_transition(before: CircuitState, after: CircuitState) -> None:
    if before is after:
        return
    metrics.CIRCUIT_TRANSITIONS.labels(after.value).inc()
    if before is not CircuitState.CLOSED:
        metrics.CIRCUITS.labels(before.value).dec()
    if after is not CircuitState.CLOSED:
        metrics.CIRCUITS.labels(after.value).inc()
