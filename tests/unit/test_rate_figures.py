"""The figures of tests/bench/rate_limits.py are what they say."""

from __future__ import annotations

import pytest

from tests.bench.rate_limits import deepest, most_in

EVENLY = [number / 8 for number in range(80)]


def test_what_comes_evenly_keeps_the_bucket_empty() -> None:
    assert most_in(EVENLY, 1.0) == 8
    assert deepest(EVENLY, 8.8) == pytest.approx(1.0)
    assert deepest([], 8.8) == 0.0


def test_twice_the_limit_fills_it() -> None:
    assert deepest([number / 16 for number in range(160)], 8.8) > 60


def test_a_receiver_that_was_held_up_fills_it_once() -> None:
    late = sorted(time if time < 3 or time > 5 else 5.0 for time in EVENLY)
    assert most_in(late, 1.0) > 16
    assert deepest(late, 8.8) < 20
