"""A circuit breaker for one endpoint: it stops requests to an endpoint that is down, and probes whether it is back.

A pure state machine; times are seconds of any monotonic clock, passed in as ``now``::

    CLOSED --(failures in a row, Retry-After, another process's report)--> OPEN --(time is up)--> HALF_OPEN (one probe at a time)
       ^------------------(the endpoint answered the probe)---------------------------------------'   | failed: OPEN, for longer
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, NamedTuple

from pipeline.core.exchange import Exchange, NoResponse
from pipeline.core.outcome import ACKNOWLEDGED

TOO_MANY_REQUESTS: Final = 429
SERVICE_UNAVAILABLE: Final = 503


class CircuitState(enum.StrEnum):
    """Closed is the good state: requests flow."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class HealthSign(enum.Enum):
    """What an exchange says about the endpoint (not about the event)."""

    ACKNOWLEDGED = enum.auto()
    ANSWERED = enum.auto()
    """It answers, but did not accept this event: 4xx, 3xx, a 2xx that acknowledges nothing."""
    FAILED = enum.auto()
    """No usable answer, 5xx, or 429."""


def sign_of(exchange: Exchange) -> HealthSign:
    if isinstance(exchange, NoResponse):
        return HealthSign.FAILED
    if exchange.status in ACKNOWLEDGED:
        return HealthSign.ACKNOWLEDGED
    return HealthSign.FAILED if exchange.status >= 500 or exchange.status == TOO_MANY_REQUESTS else HealthSign.ANSWERED


@dataclass(frozen=True, slots=True)
class CircuitLimits:
    """``failures`` in a row open the circuit for ``open_seconds``, which doubles each time, up to ``max_open_seconds``.

    Retry-After may open it for up to ``max_asked_seconds``.
    """

    failures: int = 10
    open_seconds: float = 5.0
    max_open_seconds: float = 600.0
    max_asked_seconds: float = 21_600.0

    @property
    def max_remote_seconds(self) -> float:
        """How long another process's report may keep a circuit open: no longer than one of ours could be."""
        return max(self.max_open_seconds, self.max_asked_seconds)


class _EarlyProbe(enum.Enum):
    """Whether another process's success led to an early probe while the circuit is open."""

    NONE = enum.auto()
    ALLOWED = enum.auto()
    FAILED = enum.auto()


class CircuitPermit(NamedTuple):
    """A permitted request; its end must be reported."""

    generation: int
    is_probe: bool


class Circuit:
    """One endpoint's circuit.

    An exchange counts only in the generation in which it was started: requests that were in flight when the circuit opened or
    closed say nothing new. (Otherwise 64 requests that time out together would open it again right after a successful probe.)
    """

    __slots__ = (
        "_early_probe",
        "_failures",
        "_generation",
        "_limits",
        "_open_until",
        "_openings",
        "_probing",
        "_remote_until",
        "is_remote",
        "state",
    )

    def __init__(self, limits: CircuitLimits) -> None:
        self._limits = limits
        self._generation = 0
        self._failures = 0
        self._openings = 0
        self._open_until = 0.0
        self._probing = False
        self._remote_until = 0.0
        self._early_probe = _EarlyProbe.NONE
        self.is_remote = False
        """Whether it is open only because another process said so."""
        self.state = CircuitState.CLOSED

    def refuses(self, now: float) -> float | None:
        """None if a request may start; otherwise the minimum wait in seconds (0: until the probe has ended)."""
        if self.state is CircuitState.CLOSED:
            return None
        if now < self._open_until:
            return self._open_until - now
        return 0.0 if self._probing else None

    def start(self, now: float) -> CircuitPermit | None:
        """Permit a request, or not."""
        if self.refuses(now) is not None:
            return None
        if self.state is not CircuitState.CLOSED:
            self.state = CircuitState.HALF_OPEN
            self._probing = True
        return CircuitPermit(self._generation, self._probing)

    def end(self, ticket: CircuitPermit, sign: HealthSign, now: float, asked_for: float | None = None) -> None:
        """Report the end of a request. ``asked_for``: the seconds in Retry-After, if the endpoint sent it."""
        if ticket.generation != self._generation:
            return
        match sign:
            case HealthSign.ACKNOWLEDGED:
                self._failures = self._openings = 0
                self._close()
            case HealthSign.ANSWERED:
                # It is back but has accepted nothing: if it fails again, the circuit opens for as long as before.
                self._failures = 0
                self._close()
            case HealthSign.FAILED:
                self._failures += 1
                if asked_for:
                    self._open(now + min(asked_for, self._limits.max_asked_seconds))
                elif ticket.is_probe or self._failures >= self._limits.failures:
                    self._open(max(now + self._next_open_seconds(), self._remote_until))

    def abandon(self, ticket: CircuitPermit) -> None:
        """Report that a permitted request was not made."""
        if ticket.is_probe and ticket.generation == self._generation:
            self._probing = False
            self.state = CircuitState.OPEN

    def remote_opened(self, seconds: float, now: float, *, is_new: bool = False) -> None:
        """Another process has opened its circuit, for ``seconds`` more.

        This process checks for itself: the next request is a probe. If it fails, the circuit stays open as long as the other
        process's. (A process whose own network fails must not cut off the others.) ``is_new``: this process has sent nothing to
        the endpoint yet.
        """
        if self.state is CircuitState.CLOSED:
            self._open(now)
            self._remote_until = now + min(seconds, self._limits.max_remote_seconds)
            self.is_remote = not is_new

    def remote_closed(self, now: float) -> None:
        """Another process got an answer: the next request is a probe, once for each time that the circuit opens."""
        if self.state is CircuitState.OPEN and self._early_probe is _EarlyProbe.NONE and self._open_until > now:
            self._open_until = now
            self._early_probe = _EarlyProbe.ALLOWED

    def open_for(self, now: float) -> float:
        """Seconds until a probe may start."""
        return max(0.0, self._open_until - now)

    def _next_open_seconds(self) -> float:
        # Bounded before the power: 2.0 ** 1024 is an error.
        seconds = min(self._limits.open_seconds * 2.0 ** min(self._openings, 60), self._limits.max_open_seconds)
        self._openings += 1
        return seconds

    def _open(self, until: float) -> None:
        self._open_until = until
        self._failures = 0
        self._probing = False
        self._early_probe = _EarlyProbe.FAILED if self._early_probe is _EarlyProbe.ALLOWED else _EarlyProbe.NONE
        self.is_remote = False
        self._generation += 1
        self.state = CircuitState.OPEN

    def _close(self) -> None:
        if self.state is not CircuitState.CLOSED:
            self.state = CircuitState.CLOSED
            self._probing = False
            self._early_probe = _EarlyProbe.NONE
            self._remote_until = 0.0
            self._generation += 1
