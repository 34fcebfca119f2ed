"""``oms-webhooks simulate`` and ``publish`` count only what Kafka has acknowledged."""

from __future__ import annotations

import asyncio

import pytest

from consumers.cli import traffic
from pipeline.broker.errors import PublishError
from pipeline.ops.settings import Settings
from schemas.event import EventType
from tests.unit.fake_kafka import FakeProducer
from tests.unit.sample_events import event_of

SETTINGS = Settings(_env_file=None)  # type: ignore[call-arg,unused-ignore]


class Kafka(FakeProducer):
    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    kafka = Kafka()
    monkeypatch.setattr(traffic, "open_broker", lambda _: None)
    monkeypatch.setattr(traffic, "Producer", lambda *_: kafka)
    return kafka


async def test_acknowledged_records_are_counted(kafka: Kafka) -> None:
    assert await traffic.simulate(SETTINGS, rate=10_000, seed=1, count=20) == len(kafka.sent) == 20


async def test_a_record_refused_by_kafka_is_not_counted_as_published(kafka: Kafka) -> None:
    """Without the right to write, it used to print "Published 20 events." and exit with 0."""
    kafka.errors[SETTINGS.topics.orders] = PublishError("Kafka refuses it: no permission.")
    with pytest.raises(PublishError, match="no permission"):
        await traffic.simulate(SETTINGS, rate=10_000, seed=1, count=20)


async def test_a_late_refusal_counts_too(kafka: Kafka) -> None:
    kafka.hold = True
    all_sent = asyncio.Event()

    def note(_: object) -> None:
        if len(kafka.sent) == 3:
            all_sent.set()

    publishing = asyncio.create_task(traffic.simulate(SETTINGS, rate=10_000, seed=1, count=3, on_event=note))
    await all_sent.wait()
    for sent in kafka.sent[:2]:
        sent.acknowledge()
    kafka.sent[2].acknowledged.set_exception(PublishError("Kafka refuses it."))
    with pytest.raises(PublishError):
        await publishing


async def test_events_published_beside_a_refused_one_are_reported(kafka: Kafka) -> None:
    events = [event_of(EventType.ORDER_COMPLETED), event_of(EventType.SHIPMENT_SHIPPED), event_of(EventType.ORDER_CANCELLED)]
    assert len(await traffic.publish(SETTINGS, events)) == 3
    kafka.errors[SETTINGS.topics.shipments] = PublishError("Kafka does not accept a record for oms.shipments: no permission")
    with pytest.raises(PublishError, match=r"^Kafka does not accept .*: no permission\. Published: 2 of 3 events\.$"):
        await traffic.publish(SETTINGS, events)
