"""How long records gather before they are fetched."""

from __future__ import annotations

import pytest

from pipeline.broker.gathering import Gathering

LITTLE = 1000


class Process:
    """Its clock and its CPU time."""

    def __init__(self) -> None:
        self.now = self.cpu = 0.0
        self.gathering = Gathering(lambda: self.now, lambda: self.cpu)

    def works(self, share: float, seconds: float = 0.01) -> None:
        self.now += seconds
        self.cpu += share * seconds


@pytest.mark.parametrize(("share", "seconds"), [(0.0, 0.0), (0.5, 0.0), (0.75, 0.01), (1.0, 0.02), (1.6, 0.02)])
def test_the_busier_the_process_the_longer(share: float, seconds: float) -> None:
    process = Process()
    process.works(share)
    assert process.gathering.seconds(LITTLE) == pytest.approx(seconds)


@pytest.mark.parametrize("came", [0, -5, 64 * 1024, 10**7])
def test_where_nothing_or_much_has_come_the_next_fetch_is_at_once(came: int) -> None:
    process = Process()
    process.works(1.0)
    assert process.gathering.seconds(came) == 0.0


def test_only_the_time_since_the_last_fetch_counts() -> None:
    process = Process()
    process.works(1.0, seconds=10)
    assert process.gathering.seconds(0) == 0.0
    process.works(0.2)
    assert process.gathering.seconds(LITTLE) == 0.0
    assert process.gathering.seconds(LITTLE) == 0.0  # no time has passed
