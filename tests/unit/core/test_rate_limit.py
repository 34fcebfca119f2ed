"""The rate limit: never faster than configured, even after stalls, and no slower when there is enough to do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.rate_limit import MAX_TOLERANCE_SECONDS, RateLimit


def test_the_first_request_passes_and_the_next_ones_are_spread() -> None:
    pace = RateLimit(4)

    assert [pace.reserve(0.0, 10.0) for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]


def test_a_request_that_would_wait_too_long_takes_no_slot() -> None:
    pace = RateLimit(1)
    pace.reserve(0.0, 1.0)
    pace.reserve(0.0, 1.0)

    assert [pace.reserve(0.0, 1.0) for _ in range(5)] == [None] * 5
    assert pace.begin(0.0) == 0.0
    assert pace.begin(0.4) == pytest.approx(0.6)
    pace.withdraw()
    assert pace.reserve(1.0, 0.0) == 0.0, "a withdrawn request uses nothing up"


def test_unused_time_is_not_saved() -> None:
    pace = RateLimit(10)
    pace.reserve(0.0, 1.0)
    assert pace.begin(0.0) == 0.0

    assert [pace.reserve(1000.0, 1.0) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])


def test_spending_may_run_slightly_ahead() -> None:
    pace = RateLimit(10)
    assert [pace.spend(0.0, 0.25) for _ in range(5)] == [True, True, True, False, False]
    assert pace.wait(0.0) == pytest.approx(0.3)
    assert pace.spend(1.0, 0.0)


def test_delayed_requests_do_not_all_begin_at_once() -> None:
    pace = RateLimit(50)
    for _ in range(30):
        assert pace.reserve(0.0, 1.0) is not None

    begun = sum(1 for _ in range(30) if pace.begin(0.5) == 0.0)
    assert begun == 3, "one, and what the tolerance of 40 ms allows"
    assert pace.begin(0.5) == pytest.approx(0.02)


def test_a_higher_rate_shortens_a_long_wait() -> None:
    pace = RateLimit(0.01)
    for _ in range(2):
        pace.reserve(0.0, math.inf)
    assert pace.begin(0.0) == 0.0
    assert pace.begin(1.0) == pytest.approx(99.0)
    pace.change(1.0, 1.0)
    assert pace.begin(1.0) == pytest.approx(0.99)


@given(
    st.lists(
        st.tuples(st.floats(0, 0.6), st.integers(0, 30), st.sampled_from([None, None, None, 3.0, 12.5, 25.0, 50.0])), max_size=150
    )
)
def test_no_second_exceeds_the_rate_and_its_tolerance(turns: list[tuple[float, int, float | None]]) -> None:
    """Whatever arrives when, however long nothing is checked, and however the rate changes up to its maximum."""
    pace, now, waiting = RateLimit(50.0), 0.0, 0
    starts: list[float] = []
    for pause, came, rate in turns:
        now += pause
        if rate is not None:
            pace.change(rate, now)
        for _ in range(came):
            waiting += pace.reserve(now, 1.0) is not None
        while waiting and pace.begin(now) == 0.0:
            waiting -= 1
            starts.append(now)

    for position, first in enumerate(starts):
        seen = sum(1 for start in starts[position:] if start < first + 1.0)
        assert seen <= 1 + 50.0 * (1.0 + MAX_TOLERANCE_SECONDS) <= 1.1 * 50.0


@pytest.mark.parametrize("per_second", [1, 3, 9])
def test_no_second_exceeds_a_low_rate(per_second: int) -> None:
    pace, starts = RateLimit(per_second), []
    for step in range(3000):
        now = step * 0.0037
        if pace.reserve(now, 0.0) is not None:
            assert pace.begin(now) == 0.0
            starts.append(now)
    assert all(sum(1 for one in starts if first <= one < first + 1.0) <= per_second for first in starts)


@given(st.integers(1, 500), st.integers(1, 500))
def test_the_rate_is_fully_used_when_there_is_enough_to_do(per_second: int, count: int) -> None:
    pace = RateLimit(per_second)

    waits = [pace.reserve(0.0, float("inf")) for _ in range(count)]

    assert waits[-1] == pytest.approx((count - 1) / per_second)


def test_slightly_late_timers_do_not_reduce_the_rate() -> None:
    pace, now, begun = RateLimit(100), 0.0, 0
    while now < 10.0:
        pace.reserve(now, math.inf)
        while (wait := pace.begin(now)) > 0.0:
            now += wait + 0.003
        begun += 1
    assert begun >= 990
