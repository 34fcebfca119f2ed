"""The figures of tests/bench/rate_limits.py are correct."""

from __future__ import annotations

import pytest

from tests.bench.rate_limits import deepest, most_in

EVENLY = [number / 8 for number in range(80)]


def test_a_steady_rate_keeps_the_bucket_empty() -> None:
    assert most_in(EVENLY, 1.0) == 8
    assert deepest(EVENLY, 8.8) == pytest.approx(1.0)
    assert deepest([], 8.8) == 0.0


def test_twice_the_limit_fills_the_bucket() -> None:
    assert deepest([number / 16 for number in range(160)], 8.8) > 60


def test_a_stalled_receiver_fills_the_bucket_once() -> None:
    late = sorted(time if time < 3 or time > 5 else 5.0 for time in EVENLY)
    assert most_in(late, 1.0) > 16
    assert deepest(late, 8.8) < 20
