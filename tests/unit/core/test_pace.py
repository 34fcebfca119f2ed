"""The rate limit: never faster than it says, and no slower than that when there is enough to do."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.pace import Pace


def test_the_first_passes_and_the_next_ones_are_spread() -> None:
    pace = Pace(4)

    assert [pace.reserve(0.0, 10.0) for _ in range(4)] == [0.0, 0.25, 0.5, 0.75]


def test_what_would_wait_for_too_long_takes_nothing() -> None:
    pace = Pace(1)
    pace.reserve(0.0, 1.0)
    pace.reserve(0.0, 1.0)

    assert [pace.reserve(0.0, 1.0) for _ in range(5)] == [None] * 5
    assert pace.reserve(1.0, 1.0) == 1.0


def test_time_without_requests_is_not_saved_up() -> None:
    pace = Pace(10)
    pace.reserve(0.0, 1.0)

    assert [pace.reserve(1000.0, 1.0) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])


@given(st.integers(1, 1000), st.lists(st.floats(0, 2), max_size=200), st.floats(0, 3))
def test_it_is_never_faster_than_it_says(per_second: int, pauses: list[float], longest: float) -> None:
    pace, now, starts = Pace(per_second), 0.0, []
    for pause in pauses:
        now += pause
        wait = pace.reserve(now, longest)
        if wait is not None:
            assert 0 <= wait <= longest
            starts.append(now + wait)

    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert all(gap >= 1 / per_second - 1e-9 * (1 + now) for gap in gaps)


@given(st.integers(1, 500), st.integers(1, 500))
def test_it_is_used_up_when_there_is_enough_to_do(per_second: int, count: int) -> None:
    pace = Pace(per_second)

    waits = [pace.reserve(0.0, float("inf")) for _ in range(count)]

    assert waits[-1] == pytest.approx((count - 1) / per_second)
