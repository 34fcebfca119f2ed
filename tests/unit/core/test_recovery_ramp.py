from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.recovery_ramp import LONGEST_SECONDS, RampLimits, RecoveryRamp
from tests.property_examples import examples

LIMITS = RampLimits(start_per_second=10.0, double_seconds=10.0, end_per_second=1000.0)


def busy(ramp: RecoveryRamp, seconds: float, *, share: float = 1.0, began: float = 0.0) -> float:
    """Answer as many requests as the ramp admits; return the final rate."""
    now, rate = began, ramp.arrive(share, began)
    while now < began + seconds:
        now += 1.0 / rate
        ramp.answered()
        rate = ramp.arrive(share, now)
    return rate


@pytest.mark.parametrize(("seconds", "rate"), [(10, 20), (20, 40), (40, 160), (60, 640)])
def test_the_rate_doubles_every_ten_seconds_while_there_is_enough_to_send(seconds: float, rate: float) -> None:
    assert busy(RecoveryRamp(LIMITS, 0.0), seconds) == pytest.approx(rate, rel=0.02)


def test_the_rate_stays_while_nothing_waits() -> None:
    ramp = RecoveryRamp(LIMITS, 0.0)
    for minute in range(1, 60):
        ramp.arrive(1.0, minute * 60.0)
        ramp.answered()

    assert ramp.per_second == 10.0
    assert not ramp.is_over(None, LONGEST_SECONDS - 1)
    assert ramp.is_over(None, LONGEST_SECONDS)


def test_a_backlog_raises_the_rate_to_at_most_four_times_the_answered_rate() -> None:
    ramp = RecoveryRamp(LIMITS, 0.0)
    for _ in range(5000):
        ramp.postpone(1.0)

    assert ramp.arrive(1.0, 60.0) == 40.0
    assert ramp.arrive(1.0, 120.0) == 40.0
    ramp.answered()
    assert ramp.arrive(1.0, 140.0) == pytest.approx(160.0)


def test_a_failure_halves_the_rate_but_not_below_the_start() -> None:
    ramp = RecoveryRamp(LIMITS, 0.0)
    grown = busy(ramp, 40.0)

    ramp.failed()
    assert ramp.per_second == pytest.approx(grown / 2, rel=0.01)
    for _ in range(20):
        ramp.failed()
    assert ramp.per_second == 10.0


def test_it_ends_when_the_endpoint_has_answered_at_its_normal_rate() -> None:
    ramp = RecoveryRamp(LIMITS, 0.0)
    busy(ramp, 10.5)

    assert ramp.is_over(20, 11.0)
    assert not ramp.is_over(50, 11.0)


def test_four_processes_together_have_the_rate_of_one() -> None:
    rates = [busy(RecoveryRamp(LIMITS, 0.0), 30.0, share=0.25) for _ in range(4)]

    assert sum(rates) == pytest.approx(80.0, rel=0.1)


@settings(max_examples=examples(30))
@given(st.integers(1, 300), st.floats(0.01, 1.0))
def test_postponed_deliveries_return_when_those_before_them_should_be_done(waiting: int, share: float) -> None:
    ramp = RecoveryRamp(LIMITS, 0.0)
    turns = [ramp.postpone(share) for _ in range(waiting)]

    assert turns == sorted(turns)
    assert 0 < turns[-1] <= waiting / (LIMITS.start_per_second * share)


def test_fifty_thousand_waiting_deliveries_should_be_done_in_a_minute_and_a_half() -> None:
    ramp = RecoveryRamp(LIMITS, 0.0)
    for _ in range(50_000):
        last = ramp.postpone(1.0)

    assert 80 < last < 90


@pytest.mark.parametrize(("normal", "seconds"), [(20.0, 30.0), (100.0, 60.0), (400.0, 90.0)])
def test_after_a_short_outage_the_endpoint_is_back_to_normal_in_about_a_minute(normal: float, seconds: float) -> None:
    """The circuit was open for 5 s: so much waits, and more arrives. The time until it is done is in how-delivery-works.md."""
    ramp, waiting, now, tick = RecoveryRamp(LIMITS, 0.0), 5.0 * normal, 0.0, 0.01
    while waiting > 0:
        now += tick
        waiting += normal * tick - ramp.arrive(1.0, now) * tick
        ramp.answered()
    assert seconds / 2 < now < seconds
