"""How long records accumulate before they are fetched."""

from __future__ import annotations

import pytest

from pipeline.broker.fetch_backoff import FetchBackoff

LITTLE = 1000
GATHER = 0.01


class Process:
    """Its clock and its CPU time."""

    def __init__(self, gather: float = GATHER) -> None:
        self.now = self.cpu = 0.0
        self.gathering = FetchBackoff(gather, lambda: self.now, lambda: self.cpu)

    def works(self, share: float, seconds: float = 0.01) -> None:
        self.now += seconds
        self.cpu += share * seconds


@pytest.mark.parametrize(("share", "seconds"), [(0.0, 0.01), (0.5, 0.01), (0.75, 0.015), (1.0, 0.02), (1.6, 0.02)])
def test_after_a_small_fetch_records_accumulate_for_longer_the_busier_the_process_is(share: float, seconds: float) -> None:
    process = Process()
    process.works(share)
    assert process.gathering.seconds(LITTLE) == pytest.approx(seconds)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_longer_configured_period_applies_however_busy(share: float) -> None:
    process = Process(gather=0.1)
    process.works(share)
    assert process.gathering.seconds(LITTLE) == pytest.approx(0.1)


@pytest.mark.parametrize("came", [0, -5, 64 * 1024, 10**7])
def test_after_an_empty_or_a_large_fetch_the_next_one_follows_at_once(came: int) -> None:
    process = Process()
    process.works(1.0)
    assert process.gathering.seconds(came) == 0.0


def test_only_the_time_since_the_last_fetch_counts() -> None:
    process = Process()
    process.works(1.0, seconds=10)
    assert process.gathering.seconds(0) == 0.0
    process.works(0.2)
    assert process.gathering.seconds(LITTLE) == GATHER
    assert process.gathering.seconds(LITTLE) == GATHER  # no time has passed
