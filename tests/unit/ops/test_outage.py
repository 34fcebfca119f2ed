from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from pipeline.ops.outage import Outage


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def outage(now: list[float]) -> Outage:
    return Outage("kafka", clock=lambda: now[0])


def events(logs: list[Any]) -> list[tuple[str, str]]:
    return [(entry["log_level"], entry["event"]) for entry in logs]


def test_one_line_when_it_goes_one_a_minute_and_one_when_it_is_back(outage: Outage, now: list[float]) -> None:
    with capture_logs() as logs:
        for _ in range(150):
            outage.failed("connection refused")
            now[0] += 1.0
        assert outage.problem == "connection refused"
        outage.answered()
        outage.answered()
    away, still = ("warning", "a dependency cannot be used"), ("warning", "a dependency still cannot be used")
    assert events(logs) == [away, still, still, ("info", "a dependency is back")]
    assert (logs[2]["seconds"], logs[2]["failures"]) == (120, 121)
    assert (logs[3]["seconds"], logs[3]["failures"]) == (150.0, 150)
    assert outage.problem is None


def test_that_waiting_does_not_help_is_said_at_once_and_as_an_error(outage: Outage) -> None:
    with capture_logs() as logs:
        outage.failed("connection refused")
        outage.failed("wrong password", needs_a_person=True)
        outage.failed("wrong password", needs_a_person=True)
    assert [(entry["log_level"], entry["problem"]) for entry in logs] == [
        ("warning", "connection refused"),
        ("error", "wrong password"),
    ]


def test_nothing_is_said_of_what_never_failed(outage: Outage) -> None:
    with capture_logs() as logs:
        outage.answered()
    assert logs == []
