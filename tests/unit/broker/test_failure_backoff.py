"""Repeated failures are logged once a minute, with a count, and retried less and less often."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from pipeline.broker.failure_backoff import FailureBackoff


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def trouble(clock: Clock) -> FailureBackoff:
    return FailureBackoff(structlog.get_logger(), clock=clock)


def lines(logs: Any) -> list[tuple[str, int]]:
    return [(line["event"], line.get("times", line.get("failures"))) for line in logs]


def test_pauses_grow_up_to_a_limit(clock: Clock) -> None:
    each = trouble(clock)
    with capture_logs():
        pauses = [each.note("it fails") for _ in range(12)]
    assert all(0.05 * 2**number <= pause <= 0.1 * 2**number for number, pause in enumerate(pauses[:5]))
    assert all(2.5 <= pause <= 5.0 for pause in pauses[7:])


def test_a_minute_of_failures_is_one_line(clock: Clock) -> None:
    each = trouble(clock)
    with capture_logs() as logs:
        for _ in range(100):
            each.note("it fails")
            clock.now += 0.7
        each.over("it works")
        each.over("it works")
    assert lines(logs) == [("it fails", 1), ("it fails", 86), ("it works", 100)]


def test_intermittent_failures_are_one_line_a_minute_too(clock: Clock) -> None:
    """A coordinator answers every other request: each answer ends the failure, and it starts over."""
    each = trouble(clock)
    with capture_logs() as logs:
        for _ in range(30):
            each.note("it fails")
            each.over("it works")
            clock.now += 3.0
    assert lines(logs) == [("it fails", 1), ("it works", 1), ("it fails", 20), ("it works", 1)]


def test_pauses_start_over_after_a_success(clock: Clock) -> None:
    each = trouble(clock)
    with capture_logs():
        for _ in range(10):
            each.note("it fails")
        each.over("it works")
        assert each.note("it fails") <= 0.1
