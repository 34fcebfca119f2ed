"""The broker's time, derived from acknowledged records: never ahead, whatever the round trips and the clocks do."""

from __future__ import annotations

import random

import pytest

from pipeline.core.broker_time import BrokerTime

EPOCH = 1_780_000_000.0


def asked(time: BrokerTime, sent: float, *, there: float = 0.01, back: float = 0.01, offset: float = EPOCH) -> float:
    """Send a record that takes this long to the broker, and its acknowledgement this long back. Return when that arrived."""
    acknowledged = sent + there + back
    time.sample(sent, acknowledged, int((sent + there + offset) * 1000) / 1000)
    return acknowledged


def test_before_the_first_record_the_time_is_unknown() -> None:
    assert BrokerTime().at(5.0) is None


@pytest.mark.parametrize(("there", "back"), [(0.0, 0.0), (0.01, 0.01), (0.0, 3600.0), (3600.0, 0.0), (2.0, 5.0)])
def test_it_is_late_by_at_most_the_round_trip_and_never_early(there: float, back: float) -> None:
    time = BrokerTime()
    now = asked(time, 100.0, there=there, back=back) + 7.0
    estimate = time.at(now)
    assert estimate is not None
    assert now + EPOCH - there - back - 0.002 <= estimate <= now + EPOCH


def test_slow_records_do_not_worsen_the_estimate() -> None:
    time = BrokerTime()
    now = asked(time, 100.0, there=0.001, back=0.001)
    now = asked(time, now + 30, there=0.0, back=3600.0)  # the process was stopped for an hour
    estimate = time.at(now)
    assert estimate is not None
    assert now + EPOCH - 1.0 <= estimate <= now + EPOCH


@pytest.mark.parametrize("step", [3600.0, -3600.0, 432_000.0])
def test_a_changed_clock_is_followed_when_two_records_agree(step: float) -> None:
    time = BrokerTime()
    now = asked(time, 100.0)
    now = asked(time, now + 30, offset=EPOCH + step)
    asked_again = time.needs_another
    assert time.at(now) == pytest.approx(now + EPOCH, abs=0.1)
    now = asked(time, now + 1, offset=EPOCH + step)
    assert (asked_again, time.needs_another) == (True, False)
    assert time.at(now) == pytest.approx(now + EPOCH + step, abs=0.1)


def test_one_record_with_a_wrong_time_changes_nothing() -> None:
    time = BrokerTime()
    now = asked(time, 100.0)
    now = asked(time, now + 30, offset=EPOCH + 9999)
    now = asked(time, now + 1)
    now = asked(time, now + 30, offset=EPOCH - 9999)
    assert time.at(now) == pytest.approx(now + EPOCH, abs=0.1)


def test_it_is_never_early_when_the_clock_drifts_for_a_long_time() -> None:
    chance, time, now, rate = random.Random(7), BrokerTime(), 100.0, 1 - 50e-6
    for _ in range(5000):
        sent, there, back = now, chance.expovariate(50), chance.expovariate(50)
        now = sent + there + back
        time.sample(sent, now, int(((sent + there) * rate + EPOCH) * 1000) / 1000)
        estimate = time.at(now)
        assert estimate is not None
        assert now * rate + EPOCH - 0.5 <= estimate <= now * rate + EPOCH + 1e-6
        now += 30
