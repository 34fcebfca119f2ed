"""Repeated messages are logged once a minute, with their count."""

from __future__ import annotations

from pipeline.ops import once_a_minute
from pipeline.ops.once_a_minute import OnceAMinute


def test_each_kind_is_logged_once_a_minute_with_a_count() -> None:
    now = 0.0
    counts = OnceAMinute(lambda: now)
    assert [counts.times("refused") for _ in range(100)] == [1] + [0] * 99
    assert counts.times("reset") == 1, "another kind"
    now = 60.0
    assert counts.times("refused") == 100


def test_endless_kinds_take_no_more_memory() -> None:
    counts = OnceAMinute(lambda: 0.0)
    for number in range(5_000):
        assert counts.times(f"at 0x{number:x}") == 1
    assert len(counts._logged) == once_a_minute._MAX_KINDS
