"""The clock for all decisions that depend on time: the broker's time, tracked with a local clock that cannot be set.

Due times are in the broker's time (delay topics have LogAppendTime), so this process must know that time even if its own wall
clock is wrong or jumps. From time to time, it writes a tiny record to `webhooks.clock`, and the acknowledgement contains the time.

In between, CLOCK_BOOTTIME is used where it exists: unlike CLOCK_MONOTONIC, it continues while the machine sleeps. Both continue
while the process is stopped (SIGSTOP). If a hypervisor stops even that clock, the time is late until two records agree on it.

A broker without LogAppendTime (the embedded one) reports no time. Then the time is the wall clock's at the start of this process
plus the time that has passed since, and records are stamped with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from pipeline.broker.errors import PublishError
from pipeline.broker.producer import Producer
from pipeline.core.broker_time import BrokerTime
from pipeline.ops import metrics
from pipeline.ops.clock import steady_seconds
from pipeline.ops.logs import logger

log = logger(__name__)

EVERY_SECONDS: Final = 30.0
_SOON_SECONDS: Final = 1.0
_FIRST_SECONDS: Final = 10.0
_GOOD_ENOUGH_SECONDS: Final = 1.0
TOLERANCE_SECONDS: Final = 5.0
"""A larger offset of the wall clock is reported. Receivers reject signatures that are off by five minutes (Standard Webhooks)."""
_NOT_A_TIME_MS: Final = 1
"""The timestamp of the record that is sent. A broker that returns it unchanged does not stamp records itself."""


class BrokerClock:
    """One per process that delivers. ``start`` it after the producer, ``stop`` it before the producer."""

    def __init__(
        self, topic: str, *, wall: Callable[[], float] = time.time, steady: Callable[[], float] = steady_seconds
    ) -> None:
        self._topic = topic
        self._wall = wall
        self._steady = steady
        self._time = BrokerTime()
        self._started_at = wall() - steady()
        self._stamps = True
        self._is_off = False
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, producer: Producer) -> None:
        """Ask the broker for the time repeatedly. Returns when it is known, or cannot be known for now."""
        metrics.CLOCK_OFFSET.set_function(self.offset)
        self._task = asyncio.create_task(self._run(producer))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), _FIRST_SECONDS)

    async def stop(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def seconds(self) -> float | None:
        """The broker's time in seconds since 1970, never ahead of the real time. None before it is known."""
        if not self._stamps:
            return self._started_at + self._steady()
        return self._time.at(self._steady())

    def stamp(self) -> int | None:
        """The same in milliseconds, for the records that the producer sends."""
        seconds = self.seconds()
        return None if seconds is None else int(seconds * 1000)

    def now(self) -> datetime:
        """The broker's time; before it is known, the wall clock's."""
        seconds = self.seconds()
        return datetime.fromtimestamp(self._wall() if seconds is None else seconds, UTC)

    def offset(self) -> float:
        """By how many seconds this machine's wall clock is ahead of the broker's; 0 before that is known."""
        seconds = self.seconds()
        return 0.0 if seconds is None else self._wall() - seconds

    def is_off(self) -> bool:
        """Whether the two clocks disagree, so that one of them is wrong."""
        return abs(self.offset()) > TOLERANCE_SECONDS + (self._time.error if self._stamps else 0.0)

    def may_disable(self) -> bool:
        """Whether the time is certain enough to disable an endpoint because of it."""
        return self.seconds() is not None and not self.is_off()

    def warning(self) -> str | None:
        """What is wrong with the clocks, for ``/readyz`` and the overview."""
        if not self.is_off():
            return None
        offset = self.offset()
        word = "ahead of" if offset > 0 else "behind"
        other = "the Kafka broker's" if self._stamps else "the time that has passed since this process started"
        return (
            f"The clock of this machine is {abs(offset):,.0f} s {word} {other}. Deliveries follow the latter. Until the two agree, "
            "no endpoint is disabled for failing too long; check NTP on this machine and on the brokers."
        )

    async def _run(self, producer: Producer) -> None:
        while True:
            try:
                if self._stamps:
                    await self._ask(producer)
                self._log_offset()
            except Exception:  # an unexpected error must not silently end the clock
                log.exception("asking the broker for the time failed; it is tried again")
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        """Seconds until the next request: fewer while the known time is not accurate enough."""
        is_unsure = self._time.needs_another or self._time.error > _GOOD_ENOUGH_SECONDS
        return _SOON_SECONDS if self.seconds() is None or is_unsure else EVERY_SECONDS

    async def _ask(self, producer: Producer) -> None:
        sent = self._steady()
        try:
            position = await producer.send_at(self._topic, key=b"tick", value=b"", timestamp_ms=_NOT_A_TIME_MS)
        except PublishError as error:
            self._settled.set()  # waiting would not help
            log.warning(
                "the broker's time is not known; check the permission to write the topic", topic=self._topic, error=str(error)
            )
            return
        if position.timestamp_ms == _NOT_A_TIME_MS:
            self._stamps = False
            log.info("the broker does not stamp records; time is counted from the wall clock at the start of this process")
        elif position.timestamp_ms > 0:
            self._time.sample(sent, self._steady(), position.timestamp_ms / 1000)
        if self._pause() == EVERY_SECONDS:
            self._settled.set()

    def _log_offset(self) -> None:
        is_off = self.is_off()
        if is_off and not self._is_off:
            log.error("the clock of this machine disagrees with the broker's", offset_seconds=round(self.offset(), 3))
        elif self._is_off and not is_off:
            log.info("the clock of this machine agrees with the broker's again", offset_seconds=round(self.offset(), 3))
        self._is_off = is_off
