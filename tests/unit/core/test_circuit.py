"""The circuit breaker: when it opens and for how long, that it always sends one probe at a time, and that success closes it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.core.circuit import Circuit, CircuitLimits, CircuitPermit, CircuitState, HealthSign, sign_of
from pipeline.core.exchange import Exchange, Failure, NoResponse, Response
from tests.property_examples import examples

LIMITS = CircuitLimits(failures=3, open_seconds=5.0, max_open_seconds=60.0, max_asked_seconds=3600.0)


def response(status: int) -> Response:
    return Response(status, (), b"", body_truncated=False, duration_ms=1.0, first_byte_ms=1.0)


def started(circuit: Circuit, now: float = 0.0) -> CircuitPermit:
    ticket = circuit.start(now)
    assert ticket is not None
    return ticket


def fail(circuit: Circuit, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        circuit.end(started(circuit, now), HealthSign.FAILED, now)


def opened(limits: CircuitLimits = LIMITS) -> Circuit:
    circuit = Circuit(limits)
    fail(circuit, limits.failures)
    assert circuit.state is CircuitState.OPEN
    return circuit


@pytest.mark.parametrize(
    ("exchange", "sign"),
    [
        *((response(status), HealthSign.ACKNOWLEDGED) for status in (200, 201, 202, 204)),
        *((response(status), HealthSign.ANSWERED) for status in (203, 206, 301, 304, 400, 401, 404, 410, 422, 499)),
        *((response(status), HealthSign.FAILED) for status in (429, 500, 502, 503, 504, 599, 999)),
        *((NoResponse(failure, "x", 1.0), HealthSign.FAILED) for failure in Failure),
        (NoResponse(Failure.TRUNCATED, "x", 1.0, status=200), HealthSign.FAILED),
    ],
)
def test_what_an_exchange_says_about_the_endpoint(exchange: Exchange, sign: HealthSign) -> None:
    assert sign_of(exchange) is sign


def test_it_opens_after_consecutive_failures_and_refuses_until_its_time_is_over() -> None:
    circuit = Circuit(LIMITS)
    fail(circuit, 2)
    assert (circuit.state, circuit.refuses(0.0)) == (CircuitState.CLOSED, None)

    fail(circuit, 1)

    assert (circuit.state, circuit.refuses(0.0), circuit.refuses(4.0)) == (CircuitState.OPEN, 5.0, 1.0)
    assert circuit.start(4.9) is None
    assert circuit.refuses(5.0) is None


@pytest.mark.parametrize("between", [HealthSign.ACKNOWLEDGED, HealthSign.ANSWERED])
def test_an_answer_between_failures_resets_the_count(between: HealthSign) -> None:
    circuit = Circuit(LIMITS)
    for _ in range(10):
        fail(circuit, 2)
        circuit.end(started(circuit), between, 0.0)

    assert circuit.state is CircuitState.CLOSED


def test_answers_that_do_not_acknowledge_never_open_it() -> None:
    circuit = Circuit(LIMITS)
    for _ in range(100):
        circuit.end(started(circuit), HealthSign.ANSWERED, 0.0)

    assert circuit.state is CircuitState.CLOSED


def test_one_probe_at_a_time() -> None:
    circuit = opened()

    probe = started(circuit, 5.0)

    assert (probe.is_probe, circuit.state) == (True, CircuitState.HALF_OPEN)
    assert (circuit.start(6.0), circuit.refuses(6.0)) == (None, 0.0)


def test_open_times_double_up_to_the_cap_and_reset_after_a_success() -> None:
    circuit, now, waits = opened(), 0.0, []
    for _ in range(6):
        wait = circuit.refuses(now)
        assert wait is not None
        waits.append(wait)
        now += wait
        fail(circuit, 1, now)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]

    now += 60.0
    circuit.end(started(circuit, now), HealthSign.ACKNOWLEDGED, now)
    fail(circuit, 3, now)

    assert circuit.refuses(now) == 5.0


def test_an_answer_to_the_probe_closes_it_but_does_not_shorten_the_next_open_time() -> None:
    circuit = opened()
    circuit.end(started(circuit, 5.0), HealthSign.ANSWERED, 5.0)
    assert circuit.state is CircuitState.CLOSED

    fail(circuit, 3, 6.0)

    assert circuit.refuses(6.0) == 10.0


def test_an_abandoned_probe_frees_the_next_one() -> None:
    circuit = opened()

    circuit.abandon(started(circuit, 5.0))

    assert started(circuit, 5.0).is_probe


def test_requests_started_before_it_opened_are_ignored() -> None:
    circuit = Circuit(LIMITS)
    late = [started(circuit) for _ in range(20)]
    fail(circuit, 3)
    for ticket in late[:5]:
        circuit.end(ticket, HealthSign.FAILED, 3.0)
    circuit.end(late[5], HealthSign.ACKNOWLEDGED, 3.0)
    assert circuit.refuses(3.0) == 2.0

    circuit.end(started(circuit, 5.0), HealthSign.ACKNOWLEDGED, 5.0)
    for ticket in late[6:]:
        circuit.end(ticket, HealthSign.FAILED, 6.0)

    assert circuit.state is CircuitState.CLOSED


@pytest.mark.parametrize(("asked", "seconds"), [(1.0, 1.0), (120.0, 120.0), (1e12, 3600.0)])
def test_retry_after_opens_it_at_once_for_that_long(asked: float, seconds: float) -> None:
    circuit = Circuit(LIMITS)

    circuit.end(started(circuit), HealthSign.FAILED, 10.0, asked)

    assert circuit.refuses(10.0) == seconds


def test_a_retry_after_of_zero_is_ignored() -> None:
    circuit = Circuit(LIMITS)

    circuit.end(started(circuit), HealthSign.FAILED, 0.0, 0.0)

    assert circuit.state is CircuitState.CLOSED


@given(st.integers(0, 200))
def test_the_open_time_never_exceeds_the_cap(failures: int) -> None:
    circuit = opened(CircuitLimits(failures=1, open_seconds=0.001, max_open_seconds=60.0))
    now = 0.0
    for _ in range(failures):
        now += circuit.refuses(now) or 0.0
        fail(circuit, 1, now)

    assert 0 < (circuit.refuses(now) or 0.0) <= 60.0


@dataclass
class Run:
    """A request in progress."""

    ticket: CircuitPermit
    ended: bool = field(default=False)


class AnyTraffic(RuleBasedStateMachine):
    """Requests start, end, and are abandoned in any order and at any time."""

    @initialize(failures=st.integers(1, 5), open_seconds=st.floats(0.1, 100), times=st.floats(1, 100))
    def begin(self, failures: int, open_seconds: float, times: float) -> None:
        self.limits = CircuitLimits(failures, open_seconds, open_seconds * times, max_asked_seconds=200.0)
        self.circuit = Circuit(self.limits)
        self.now = 0.0
        self.in_progress: list[CircuitPermit] = []
        self.current_probes: list[CircuitPermit] = []

    @rule(seconds=st.floats(0, 300))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def start_a_request(self) -> None:
        refused = self.circuit.refuses(self.now)
        ticket = self.circuit.start(self.now)
        assert (ticket is None) == (refused is not None)
        if ticket is not None:
            self.in_progress.append(ticket)
            if ticket.is_probe:
                self.current_probes.append(ticket)

    @precondition(lambda self: self.in_progress)
    @rule(data=st.data(), sign=st.sampled_from(HealthSign), asked=st.none() | st.floats(0, 1e6))
    def end_a_request(self, data: st.DataObject, sign: HealthSign, asked: float | None) -> None:
        ticket = self._take(data)
        was_probe = ticket in self.current_probes
        if was_probe:
            self.current_probes.remove(ticket)
        self.circuit.end(ticket, sign, self.now, asked)
        if was_probe:
            assert self.circuit.state is (CircuitState.OPEN if sign is HealthSign.FAILED else CircuitState.CLOSED)

    @precondition(lambda self: self.in_progress)
    @rule(data=st.data())
    def abandon_a_request(self, data: st.DataObject) -> None:
        ticket = self._take(data)
        if ticket in self.current_probes:
            self.current_probes.remove(ticket)
        self.circuit.abandon(ticket)

    def _take(self, data: st.DataObject) -> CircuitPermit:
        ticket = data.draw(st.sampled_from(self.in_progress))
        self.in_progress.remove(ticket)
        return ticket

    @invariant()
    def never_more_than_one_probe(self) -> None:
        if hasattr(self, "circuit"):
            assert len(self.current_probes) <= 1

    @invariant()
    def it_always_probes_again(self) -> None:
        """Whatever happened: when no request is in progress, one is admitted after a bounded time."""
        if hasattr(self, "circuit") and not self.current_probes:
            wait = self.circuit.refuses(self.now) or 0.0
            assert wait <= max(self.limits.max_open_seconds, self.limits.max_asked_seconds) + 1e-6 * (1 + self.now)
            assert self.circuit.refuses(self.now + wait + 1e-6 * (1 + self.now)) is None


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=examples(60), deadline=None)
