"""Failures of filters: collected, reported with an example, and not more often than somebody can read."""

from __future__ import annotations

from datetime import timedelta

from msgspec.structs import replace

from pipeline.broker.memory.broker import MemoryBroker
from pipeline.core.filters.evaluation import FilterFault
from pipeline.core.filters.stored import compiled, fields_of
from pipeline.delivery.filter_failure_monitor import FilterFailureMonitor
from pipeline.delivery.owner_notices import OwnerNotices
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.subscriptions import FilterFailure
from pipeline.endpoints.vault import Vault
from schemas.codec import from_json, to_json
from schemas.health import HealthRecord
from schemas.operational import EndpointNotice, OperationalEvent
from tests.unit.fake_kafka import FakeProducer, record, settle
from tests.unit.sample_events import NOW, endpoint_record


def registry_of(*texts: str) -> Registry:
    registry = Registry(MemoryBroker(), "webhooks.endpoints", Vault(Vault.new_key()))
    records = [replace(endpoint_record(number), **fields_of(compiled([text])), version=3) for number, text in enumerate(texts, 1)]
    registry._apply(record(to_json(one), topic="webhooks.endpoints", key=str(one.id).encode()) for one in records)
    return registry


def of_endpoint(endpoint_id: int) -> FilterFailure:
    return FilterFailure("order_completed", "data.total > 1", FilterFault.TYPE, "Values of different kinds.", endpoint_id)


def reported(producer: FakeProducer) -> list[tuple[bytes | None, HealthRecord]]:
    return [(sent.key, from_json(sent.value, HealthRecord)) for sent in producer.sent]


async def test_a_failure_is_reported_with_an_example_and_a_count() -> None:
    producer = FakeProducer()
    monitor = FilterFailureMonitor(registry_of("data.total > 1"), producer, "webhooks.endpoint-health", lambda: NOW)
    monitor.note(of_endpoint(1), "evt_1")
    monitor.note(of_endpoint(1), "evt_2")
    monitor.note(of_endpoint(99), "evt_2")  # deleted in the meantime
    monitor.report()

    [(key, fact)] = reported(producer)
    assert key == b"1/filter"
    assert (fact.event_id, fact.count, fact.expression, fact.reason) == ("evt_2", 2, "data.total > 1", "type")
    assert fact.endpoint_version == 3
    assert set(monitor._reported_at) == {1}, "nothing is kept of the deleted one"

    monitor.note(of_endpoint(1), "evt_3")
    monitor.report()
    assert len(producer.sent) == 1  # the next report is due in ten minutes
    monitor.close()


async def test_the_owner_of_a_failing_filter_is_notified_once_a_day() -> None:
    producer, health, now = FakeProducer(), HealthTable(MemoryBroker(), "webhooks.endpoint-health"), [NOW]
    notices = OwnerNotices(producer, "webhooks.operational-events", lambda: now[0], disable_after=timedelta(days=5))
    registry = registry_of("data.total > 1")
    registry.health = health

    async def fails_after(**passed: float) -> None:
        """Runs in a new process each time, which knows what was reported."""
        now[0] = NOW + timedelta(**passed)
        monitor = FilterFailureMonitor(registry, producer, "webhooks.endpoint-health", lambda: now[0], notices)
        monitor.note(of_endpoint(1), "evt_1")
        monitor.report()
        await settle()
        monitor.close()
        facts = producer.to("webhooks.endpoint-health")
        health.apply(
            [record(sent.value, topic=sent.topic, key=sent.key, partition=0, offset=sent.position.offset) for sent in facts]
        )

    for minutes in (0, 4, 10, 20, 30):
        await fails_after(minutes=minutes)
    events = [from_json(sent.value, OperationalEvent) for sent in producer.to("webhooks.operational-events")]
    assert [event.event_name for event in events] == ["endpoint.filter_failing"]
    assert isinstance(events[0].notice, EndpointNotice)
    assert (events[0].notice.expression, events[0].notice.failing_since) == ("data.total > 1", NOW)

    for hours in (12, 30, 31, 70, 71):  # it fails for another day; then it stops for more than a day, and starts over
        await fails_after(hours=hours)
    ids = [from_json(sent.value, OperationalEvent).id for sent in producer.to("webhooks.operational-events")]
    assert len(set(ids)) == len(ids) == 3


async def test_a_missing_field_is_reported_for_all_filters_that_compare_it() -> None:
    producer = FakeProducer()
    registry = registry_of('data.chanel == "a"', 'data.chanel == "b"', "data.chanel == null", 'data.channel == "a"')
    monitor = FilterFailureMonitor(registry, producer, "webhooks.endpoint-health", lambda: NOW)
    monitor.note(
        FilterFailure(
            "order_completed", "data.chanel", FilterFault.MISSING_FIELD, "The event has no field 'chanel'.", path="chanel"
        ),
        "evt_1",
    )
    monitor.report()

    assert [(key, fact.detail) for key, fact in reported(producer)] == [
        (b"1/filter", "The event has no field 'chanel'."),
        (b"2/filter", "The event has no field 'chanel'."),
    ]
    monitor.close()
