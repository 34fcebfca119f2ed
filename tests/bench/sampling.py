"""The resources of processes while they work: memory and CPU time from /proc, and their metrics. Linux only."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.faults.processes import RoleProcess

SECONDS_BETWEEN_SAMPLES = 1.0
SECONDS_BETWEEN_SCRAPES = 5.0
WARM_UP_SECONDS = 60.0
MIN_SECONDS_TO_JUDGE = 120.0
_MIB = 1024 * 1024
_LAG = "oms_webhooks_consumer_lag_records"
_GONE = ("oms_webhooks_rebalances_total", ('kind="lost"', 'kind="revoked"'))


class Sample(NamedTuple):
    """A sample of a process: seconds since 1970, MiB in memory, CPU seconds so far."""

    at: float
    rss: float
    cpu: float


@dataclass
class Life:
    """The life of a process from start to end."""

    role: str
    pid: int
    samples: list[Sample] = field(default_factory=list)
    peak: float = 0.0
    """In MiB: the peak that the kernel saw (VmHWM), also between samples."""
    lags: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since 1970, and the consumer's lag in records."""
    lost: float = 0.0
    """How many partitions were lost, in all."""


class Sampler:
    """Samples roles every second; a restarted role has several lives."""

    def __init__(self, roles: Mapping[str, RoleProcess]) -> None:
        self._roles = roles
        self._scraped = 0.0
        self.lives: list[Life] = []

    def look(self) -> None:
        """Take a sample of every running role."""
        for role, process in self._roles.items():
            pid = pid_of(process)
            if pid is not None and (status := _status(pid)) is not None:
                life = self._life(role, pid)
                life.samples.append(Sample(time.time(), status["VmRSS"], cpu_seconds(pid)))
                life.peak = max(life.peak, status["VmHWM"])

    async def scrape(self) -> None:
        """Read the metrics of every running role."""
        self._scraped = time.monotonic()
        for role, process in self._roles.items():
            pid = pid_of(process)
            metrics = await scraped(process.url) if pid is not None else {}
            if pid is not None and metrics:
                life = self._life(role, pid)
                life.lags.append((time.time(), sum(value for name, value in metrics.items() if name.startswith(_LAG))))
                life.lost = sum(
                    value
                    for name, value in metrics.items()
                    if name.startswith(_GONE[0]) and any(kind in name for kind in _GONE[1])
                )

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.look()
            if time.monotonic() - self._scraped > SECONDS_BETWEEN_SCRAPES:
                await self.scrape()
            await asyncio.sleep(SECONDS_BETWEEN_SAMPLES)

    def of(self, role: str) -> list[Life]:
        """Return the lives of a role."""
        return [life for life in self.lives if life.role == role]

    def _life(self, role: str, pid: int) -> Life:
        for life in self.lives:
            if (life.role, life.pid) == (role, pid):
                return life
        self.lives.append(life := Life(role, pid))
        return life


@asynccontextmanager
async def sampled(roles: Mapping[str, RoleProcess]) -> AsyncIterator[Sampler]:
    """Sample while the block runs, and once at its end."""
    sampler = Sampler(roles)
    task = asyncio.create_task(sampler.run())
    try:
        yield sampler
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        sampler.look()
        await sampler.scrape()


def judged(life: Life) -> dict[str, Any]:
    """Return the figures of a process; ``growth`` is that of a line fitted to its samples after the warm-up, as a share of the mean."""
    first, last = life.samples[0], life.samples[-1]
    warm = [sample for sample in life.samples if sample.at - first.at >= WARM_UP_SECONDS]
    figures: dict[str, Any] = {
        "role": life.role,
        "seconds": round(last.at - first.at),
        "first_mib": round(first.rss),
        "last_mib": round(last.rss),
        "peak_mib": round(life.peak),
        "most_lag": round(max((lag for _, lag in life.lags), default=0)),
        "last_lag": round(life.lags[-1][1]) if life.lags else None,
        "growth": None,
    }
    if warm and warm[-1].at - warm[0].at >= MIN_SECONDS_TO_JUDGE:
        line = statistics.linear_regression([sample.at for sample in warm], [sample.rss for sample in warm])
        mean = statistics.fmean(sample.rss for sample in warm)
        figures["growth"] = round(line.slope * (warm[-1].at - warm[0].at) / mean, 3)
        figures["mib_an_hour"] = round(line.slope * 3600, 1)
    return figures


async def scraped(url: str) -> dict[str, float]:
    """Return the metrics of a role by name and labels; empty while it does not serve them."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            text = (await client.get(f"{url}/metrics")).text
    except httpx.TransportError:
        return {}
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def pid_of(process: RoleProcess) -> int | None:
    """Return the process id of a role; None while it does not run."""
    child = process._process
    return None if child is None or child.poll() is not None else child.pid


def cpu_seconds(pid: int) -> float:
    """Return a process's CPU seconds so far; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int) -> dict[str, float] | None:
    """Return VmRSS and VmHWM in MiB; None when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 / _MIB for line in lines if line.startswith(("VmRSS:", "VmHWM:"))}
    return found if len(found) == 2 else None
