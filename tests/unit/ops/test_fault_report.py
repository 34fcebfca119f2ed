"""Own faults are counted, logged at a limited rate with the exact number, and shown while they last."""

from __future__ import annotations

import pytest

from pipeline.core.local_faults import LocalFault
from pipeline.ops import fault_report
from pipeline.ops.fault_report import LASTS_SECONDS, LocalFaultReport
from tests.waiting import until

DETAIL = "This process is short of resources: too many open files."


class FakeLog:
    """Takes the place of the log."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int]] = []

    def error(self, _: str, *, fault: str, deliveries: int, detail: str) -> None:
        assert detail == DETAIL
        self.lines.append((fault, deliveries))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> FakeLog:
    log = FakeLog()
    monkeypatch.setattr(fault_report, "log", log)
    return log


async def test_many_faults_are_two_lines_with_the_exact_number(log: FakeLog) -> None:
    faults = LocalFaultReport(report_every_seconds=0.05)
    for _ in range(485):
        faults.count(LocalFault.DESCRIPTORS, DETAIL)
    faults.count(LocalFault.MEMORY, DETAIL)
    assert log.lines == [("no_descriptors", 1), ("no_memory", 1)]
    await until(lambda: len(log.lines) >= 3)
    assert log.lines[2:] == [("no_descriptors", 484)]
    faults.close()


async def test_unlogged_faults_are_logged_at_the_end(log: FakeLog) -> None:
    faults = LocalFaultReport()
    for _ in range(5):
        faults.count(LocalFault.RESOLVER, DETAIL)
    faults.close()
    assert log.lines == [("resolver_down", 1), ("resolver_down", 4)]


async def test_the_warning_lasts_as_long_as_the_fault(log: FakeLog) -> None:
    seconds = [0.0]
    faults = LocalFaultReport(lambda: seconds[0])
    assert faults.warning() is None
    faults.count(LocalFault.NETWORK, DETAIL)
    seconds[0] = 130.0
    faults.count(LocalFault.DESCRIPTORS, DETAIL)
    seconds[0] = 150.0
    faults.count(LocalFault.DESCRIPTORS, DETAIL)
    assert faults.warning() == (
        f"2 deliveries were parked in the last 1 min through a fault of this process (no_descriptors): {DETAIL}"
    )
    seconds[0] += LASTS_SECONDS + 1
    assert faults.warning() is None
    faults.close()
