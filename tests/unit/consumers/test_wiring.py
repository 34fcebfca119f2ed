"""How the parts of the roles are connected."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from consumers.wiring import make_deliveries, make_fan_out, make_retry
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.delivery.broker_clock import BrokerClock
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.vault import Vault
from pipeline.ops.settings import Settings
from schemas.codec import from_header
from schemas.delivery import DEAD_LETTER_HEADER, DeadLetter
from tests.unit.fake_kafka import FakeProducer, record
from tests.unit.sample_events import NOW


async def test_a_dead_letter_has_the_time_of_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a slow wall clock, the recorder would consider it older than retention_days, and drop it."""
    monkeypatch.setattr(BrokerClock, "now", lambda _: NOW)
    settings, broker, producer = Settings(encryption_key=SecretStr(Vault.new_key())), MemoryBroker(), FakeProducer()
    clock, health = BrokerClock(settings.topics.clock), HealthTable(broker, settings.topics.endpoint_health)
    deliveries = make_deliveries(settings, broker, producer, clock, health, None)

    await make_fan_out(settings, broker, producer, deliveries, None).handle(record(None))
    retry = make_retry(settings, broker, producer, deliveries, (), None)
    await retry.handle(record(None, topic=settings.topics.delay_topics[0]))

    letters = [from_header(sent.headers, DEAD_LETTER_HEADER, DeadLetter) for sent in producer.to(settings.topics.dead_letters)]
    assert [letter.failed_at for letter in letters] == [NOW, NOW]
