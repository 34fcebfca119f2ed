"""Neither one bad endpoint nor fifty affect others: the short form of tests/bench/isolation.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tests.bench.isolation import Figures, measure
from tests.faults.conftest import Tell

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(400)]

PHASE_SECONDS = 20.0
SHARE = 0.4
BURST = 300
NOISE_SECONDS = 0.1
"""What other load on the machine may add to the 99th percentile of either phase."""


async def test_hostile_endpoints_do_not_affect_healthy_ones(bootstrap_servers: str, tmp_path: Path, tell: Tell) -> None:
    found = await measure(bootstrap_servers, tmp_path, seconds=PHASE_SECONDS, share=SHARE, burst=BURST)
    tell(shown(found))

    assert found.healthy.missing == found.hostile.missing == 0
    assert found.throughput_kept >= 0.95
    assert found.hostile.p99 <= max(1.5 * found.healthy.p99, found.healthy.p99 + NOISE_SECONDS)
    assert found.counters["parked"] > 0, "the hostile endpoints were not hostile"


def shown(found: Figures) -> str:
    console = Console(width=110)
    with console.capture() as capture:
        console.print(found.table())
    return capture.get()
