"""The clock of a process that delivers, with brokers that stamp records with their time and with one that does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from pipeline.broker.api import Position
from pipeline.broker.errors import PublishError
from pipeline.delivery import broker_clock
from pipeline.delivery.broker_clock import BrokerClock
from pipeline.ops import metrics
from tests.unit.fake_kafka import FakeProducer
from tests.waiting import until

TOPIC = "webhooks.clock"
START = 1_780_000_000.0
HOUR = 3600.0


class Clocks:
    """The wall clock of this machine, a steady clock, and the broker's clock."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.wall_is_ahead = 0.0
        self.broker_is_ahead = 0.0

    def wall(self) -> float:
        return START + self.passed + self.wall_is_ahead

    def steady(self) -> float:
        return 50.0 + self.passed

    def broker(self) -> float:
        return START + self.passed + self.broker_is_ahead


class Stamping(FakeProducer):
    """A broker that may stamp records with its own time."""

    def __init__(self, clocks: Clocks, *, stamps: bool = True) -> None:
        super().__init__()
        self._clocks = clocks
        self._stamps = stamps

    def send_at(self, topic: str, *, key: bytes, value: bytes, timestamp_ms: int) -> asyncio.Future[Position]:
        written = super().send_at(topic, key=key, value=value, timestamp_ms=timestamp_ms)
        if written.done() and not written.exception():
            stamped = int(self._clocks.broker() * 1000) if self._stamps else timestamp_ms
            written = asyncio.get_running_loop().create_future()
            written.set_result(Position(topic, 0, 0, stamped))
        return written


@asynccontextmanager
async def running(clocks: Clocks, producer: FakeProducer) -> AsyncIterator[BrokerClock]:
    clock = BrokerClock(TOPIC, wall=clocks.wall, steady=clocks.steady)
    await clock.start(producer)
    try:
        yield clock
    finally:
        await clock.stop()


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize("stamps", [True, False], ids=["LogAppendTime", "CreateTime"])
@pytest.mark.parametrize("jump", [HOUR, -HOUR, 5 * 24 * HOUR], ids=str)
async def test_a_jumping_wall_clock_changes_nothing_and_is_reported(stamps: bool, jump: float) -> None:
    clocks = Clocks()
    async with running(clocks, Stamping(clocks, stamps=stamps)) as clock:
        assert clock.warning() is None
        assert clock.may_disable()
        clocks.wall_is_ahead = jump
        clocks.passed += 100
        assert clock.seconds() == pytest.approx(START + 100, abs=0.1)
        assert abs((clock.now() - at(START + 100)).total_seconds()) < 0.1
        assert not clock.may_disable()
        assert ("ahead of" if jump > 0 else "behind") in (clock.warning() or "")
        shown = metrics.registry.get_sample_value("oms_webhooks_clock_offset_seconds")
        assert shown == pytest.approx(jump, abs=0.1)


@pytest.mark.parametrize("sign", [1, -1], ids=["ahead", "behind"])
async def test_a_wall_clock_within_the_tolerance_is_accepted(sign: int) -> None:
    clocks = Clocks()
    async with running(clocks, Stamping(clocks, stamps=False)) as clock:
        clocks.wall_is_ahead = sign * broker_clock.TOLERANCE_SECONDS
        assert clock.warning() is None
        assert clock.may_disable()
        clocks.wall_is_ahead += sign * 0.001
        assert clock.warning() is not None
        assert not clock.may_disable()


@pytest.mark.parametrize("ahead", [HOUR, -HOUR], ids=str)
async def test_a_wall_clock_that_is_wrong_from_the_start_is_corrected(ahead: float) -> None:
    clocks = Clocks()
    clocks.wall_is_ahead = ahead
    async with running(clocks, Stamping(clocks)) as clock:
        assert clock.seconds() == pytest.approx(START, abs=0.1)
        assert clock.warning() is not None


async def test_records_are_stamped_with_the_corrected_time() -> None:
    clocks = Clocks()
    assert BrokerClock(TOPIC, wall=clocks.wall, steady=clocks.steady).stamp() is None
    async with running(clocks, Stamping(clocks)) as clock:
        clocks.wall_is_ahead = HOUR
        assert clock.stamp() == pytest.approx(START * 1000, abs=100)


async def test_a_jumping_broker_clock_is_followed_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_clock, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(broker_clock, "_SOON_SECONDS", 0.01)
    clocks = Clocks()
    async with running(clocks, Stamping(clocks)) as clock:
        clocks.broker_is_ahead = HOUR
        await until(lambda: (clock.seconds() or 0.0) >= START + HOUR - 1)
        assert not clock.may_disable()
        assert clock.warning() is not None


async def test_without_the_permission_to_write_the_topic_the_wall_clock_is_used() -> None:
    clocks, producer = Clocks(), FakeProducer()
    producer.errors[TOPIC] = PublishError("Kafka does not accept a record for webhooks.clock")
    async with running(clocks, producer) as clock:
        assert clock.seconds() is None
        assert clock.now() == at(START)
        assert not clock.may_disable()


async def test_an_unexpected_error_does_not_stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_clock, "_SOON_SECONDS", 0.01)
    clocks = Clocks()
    producer = Stamping(clocks)
    producer.errors[TOPIC] = ZeroDivisionError("a bug")
    clock = BrokerClock(TOPIC, wall=clocks.wall, steady=clocks.steady)
    with capture_logs() as logs:
        starting = asyncio.create_task(clock.start(producer))
        await until(lambda: logs)
    producer.errors.clear()
    await starting
    assert clock.seconds() == pytest.approx(START, abs=0.1)
    assert [line["log_level"] for line in logs[:1]] == ["error"]
    await clock.stop()
