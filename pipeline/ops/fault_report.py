"""Reports deliveries that our own faults prevented: counts them, logs them once a minute, and shows them while a fault lasts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pipeline.core.local_faults import LocalFault
from pipeline.ops import metrics
from pipeline.ops.logs import logger

log = logger(__name__)

MIN_REPORT_SECONDS: Final = 60.0
LASTS_SECONDS: Final = 60.0
"""A fault counts as over if it has prevented nothing for this long."""


@dataclass(slots=True)
class _FaultPeriod:
    """A fault that lasts: since when, how often, and how often since the last log line."""

    since: float
    last: float
    count: int = 0
    unlogged: int = 0
    detail: str = ""


class LocalFaultReport:
    """One per delivering process. Used on the event loop only. ``clock``: seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, report_every_seconds: float = MIN_REPORT_SECONDS) -> None:
        self._clock = clock
        self._report_every_seconds = report_every_seconds
        self._periods: dict[LocalFault, _FaultPeriod] = {}
        self._quiet: dict[LocalFault, asyncio.TimerHandle] = {}
        for fault in LocalFault:  # starts at 0: Prometheus sees no increase from nothing to 1
            metrics.OWN_FAULTS.labels(fault.value)

    def count(self, fault: LocalFault, detail: str) -> None:
        """Note that a delivery was parked because of a fault of ours."""
        metrics.OWN_FAULTS.labels(fault.value).inc()
        now = self._clock()
        period = self._periods.get(fault)
        if period is None or not self._lasts(period):
            period = self._periods[fault] = _FaultPeriod(now, now, unlogged=0 if period is None else period.unlogged)
        period.last, period.detail = now, detail
        period.count += 1
        period.unlogged += 1
        if fault not in self._quiet:
            self._log_repeatedly(fault)

    def warning(self) -> str | None:
        """What prevents deliveries now, in words for ``/readyz`` and the overview; None if nothing does."""
        lasting = [(fault, period) for fault, period in self._periods.items() if self._lasts(period)]
        if not lasting:
            return None
        return "; ".join(self._words(fault, period) for fault, period in lasting)

    def close(self) -> None:
        """Log what was not logged yet. After that, log nothing."""
        for fault in list(self._quiet):
            self._quiet.pop(fault).cancel()
            self._log(fault)

    def _lasts(self, period: _FaultPeriod) -> bool:
        return self._clock() - period.last <= LASTS_SECONDS

    def _words(self, fault: LocalFault, period: _FaultPeriod) -> str:
        deliveries = "1 delivery was" if period.count == 1 else f"{period.count:,} deliveries were"
        minutes = max(1, round((self._clock() - period.since) / 60 + 0.5))
        return f"{deliveries} parked in the last {minutes} min through a fault of this process ({fault.value}): {period.detail}"

    def _log_repeatedly(self, fault: LocalFault) -> None:
        self._quiet.pop(fault, None)
        if self._log(fault):
            self._quiet[fault] = asyncio.get_running_loop().call_later(self._report_every_seconds, self._log_repeatedly, fault)

    def _log(self, fault: LocalFault) -> bool:
        period = self._periods[fault]
        if not period.unlogged:
            return False
        log.error(
            "deliveries were parked through a fault of this process; no attempt was used up",
            fault=fault.value,
            deliveries=period.unlogged,
            detail=period.detail,
        )
        period.unlogged = 0
        return True
