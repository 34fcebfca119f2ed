from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from pipeline.ops.outage_log import OutageLog


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def outage(now: list[float]) -> OutageLog:
    return OutageLog("kafka", clock=lambda: now[0])


def events(logs: list[Any]) -> list[tuple[str, str]]:
    return [(entry["log_level"], entry["event"]) for entry in logs]


def test_an_outage_is_logged_at_its_start_once_a_minute_and_at_its_end(outage: OutageLog, now: list[float]) -> None:
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


def test_a_problem_that_needs_an_operator_is_logged_at_once_as_an_error(outage: OutageLog) -> None:
    with capture_logs() as logs:
        outage.failed("connection refused")
        outage.failed("wrong password", needs_operator=True)
        outage.failed("wrong password", needs_operator=True)
    assert [(entry["log_level"], entry["problem"]) for entry in logs] == [
        ("warning", "connection refused"),
        ("error", "wrong password"),
    ]


def test_a_dependency_that_never_failed_is_not_logged(outage: OutageLog) -> None:
    with capture_logs() as logs:
        outage.answered()
    assert logs == []


def test_intermittent_outages_are_logged_once_a_minute(outage: OutageLog, now: list[float]) -> None:
    with capture_logs() as logs:
        for _ in range(3 * 60 * 60 // 20):  # three hours, unreachable for 10 s in each 20 s
            outage.failed("connection reset")
            now[0] += 10.0
            outage.answered()
            now[0] += 10.0
    away, back = ("warning", "a dependency cannot be used"), ("info", "a dependency is back")
    assert events(logs) == [away, back] * 180, "two lines a minute; there were six"
    assert [entry.get("earlier_outages") for entry in logs[:6:2]] == [None, 2, 2]


def test_an_outage_soon_after_another_is_logged_if_it_lasts(outage: OutageLog, now: list[float]) -> None:
    with capture_logs() as logs:
        outage.failed("connection reset")
        outage.answered()
        now[0] += 1.0
        for _ in range(100):
            outage.failed("connection refused")
            now[0] += 1.0
        outage.answered()
    assert [(entry["event"], entry.get("problem")) for entry in logs] == [
        ("a dependency cannot be used", "connection reset"),
        ("a dependency is back", None),
        ("a dependency cannot be used", "connection refused"),
        ("a dependency is back", None),
    ]
    assert "earlier_outages" not in logs[2], "the first one was logged"
    assert (logs[3]["seconds"], logs[3]["failures"]) == (100.0, 100)
