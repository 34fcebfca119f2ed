"""Event types that come and go while the pipeline runs: reading the topic, and concurrent changes in several processes."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from pipeline.broker.api import Partition, Position
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.endpoints import event_type_catalogue
from pipeline.endpoints.event_type_catalogue import EventTypeCatalogue, StaleEventTypeError
from pipeline.ops.event_types_file import entry_problems
from schemas.codec import to_json
from schemas.configured_events import ConfiguredEventType
from schemas.event import EventType
from schemas.event_type_record import EventTypeRecord
from schemas.event_types import BUILT_IN, EventTypes
from tests.unit.endpoints.registry_case import EndpointsTopic
from tests.unit.fake_kafka import record

TOPIC = "webhooks.event-types"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ENTRY: dict[str, Any] = {
    "name": "refund_issued",
    "topic": "oms.orders",
    "description": "Money is given back.",
    "schema": {},
    "sample": {},
}


def catalogue(of_file: EventTypes = BUILT_IN) -> EventTypeCatalogue:
    return EventTypeCatalogue(MemoryBroker(), TOPIC, of_file)


def change(entry: dict[str, Any] | None = ENTRY, name: str = "refund_issued", **fields: Any) -> EventTypeRecord:
    return EventTypeRecord(**{"name": name, "entry": entry, "created_at": NOON, "updated_at": NOON} | fields)


def written(one: EventTypeRecord, offset: int = 0) -> Any:
    return record(to_json(one), topic=TOPIC, key=one.name.encode(), offset=offset)


def test_followers_are_notified_of_every_change_and_of_nothing_else() -> None:
    types, heard = catalogue(), list[tuple[str, ...]]()
    types.follow(lambda found: heard.append(found.names[len(EventType) :]))
    types._apply([written(change())])
    types._apply([written(change(ENTRY | {"description": "Otherwise."}, revision=2), 1)])
    types._apply([written(change(None, revision=3), 2), written(change(None, revision=4), 3)])
    types._apply([written(change(None, revision=5), 4)])
    assert heard == [(), ("refund_issued",), ("refund_issued",), ()]
    assert types.get("refund_issued") is None
    assert types.next_revision("refund_issued") == 6


@pytest.mark.parametrize(
    "broken",
    [
        record(b"{", topic=TOPIC, key=b"x", offset=1),
        record(b'{"schema_version": 9, "name": "a_b"}', topic=TOPIC, key=b"x", offset=1),
        record(None, topic=TOPIC, key=b"\xff", offset=1),
        written(change({"name": "a_b"}, "a_b"), 1),
        written(change(ENTRY | {"schema": {"type": 7}}, revision=2), 1),
        written(change(ENTRY | {"topic": "__consumer_offsets"}, revision=2), 1),
        written(change(ENTRY | {"topic": "eu.webhooks.attempts"}, revision=2), 1),
        written(change(ENTRY, "another_name"), 1),
        written(change(ENTRY | {"name": "order_completed"}, "order_completed"), 1),
        written(change(ENTRY | {"schema": {"$ref": "https://example.com/x"}}, revision=2), 1),
    ],
)
def test_an_unusable_record_is_reported_and_stops_nothing(broken: Any) -> None:
    types = catalogue()
    with capture_logs() as logs:
        types._apply([written(change()), broken, written(change(ENTRY | {"name": "a_c"}, "a_c"), 2)])
    assert types.types.names[len(EventType) :] == ("refund_issued", "a_c"), "earlier types stay in use"
    assert [one["event"] for one in logs] == ["an event type's record cannot be used"]


async def test_entries_are_checked_on_the_thread_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large schema takes seconds, during which the event loop of a fan-out would deliver nothing."""
    threads: list[str] = []

    def note(*arguments: Any) -> list[tuple[str, str]]:
        threads.append(threading.current_thread().name)
        return entry_problems(*arguments)

    monkeypatch.setattr(event_type_catalogue, "entry_problems", note)
    broker, unusable = MemoryBroker(), ENTRY | {"name": "a_b", "schema": {"type": 7}}
    broker.cluster.create(TOPIC, 1)
    for one in (change(), change(None, "a_c"), change(unusable, "a_b"), change(ENTRY | {"name": "a_d"}, "a_d")):
        broker.cluster.append(Partition(TOPIC, 0), one.name.encode(), to_json(one))
    broker.cluster.append(Partition(TOPIC, 0), b"a_e", None)
    types = EventTypeCatalogue(broker, TOPIC, BUILT_IN)
    await types.table.start()
    await types.table.stop()
    assert threads == [f"table {TOPIC}"] * 3
    assert types.types.names[len(EventType) :] == ("refund_issued", "a_d")
    assert types.unusable()["a_b"].startswith("a_b: schema.type: It is not a JSON Schema")
    assert types._prepared == {}


def test_the_file_takes_precedence_over_the_topic() -> None:
    of_file = EventTypes([ConfiguredEventType("refund_issued", "oms.refunds", "Of the file.", {}, {})])
    types = catalogue(of_file)
    with capture_logs() as logs:
        types._apply([written(change())])
    assert types.types.by_name["refund_issued"].description == "Of the file."
    assert "is also built in or in the file of event types" in logs[0]["error"]
    assert [types.origin(name) for name in ("order_completed", "refund_issued", "x")] == ["built_in", "file", "api"]
    types._apply([written(change(ENTRY | {"name": "a_b", "topic": "oms.refunds"}, "a_b"), 1)])
    assert types.types.by_name["a_b"].topic == "oms.refunds", "a topic of the file is read too"


class Topic(EndpointsTopic):
    """Written at once, and read by every catalogue that follows."""

    def __init__(self, *catalogues: EventTypeCatalogue) -> None:
        super().__init__()
        self.written: list[Any] = []
        self.catalogues = catalogues
        for one in catalogues:
            one.table.is_caught_up = True

    def send(self, topic: str, *, key: bytes | None, value: bytes | None, **_: Any) -> Any:
        done: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        one = record(value, topic=topic, key=key, offset=len(self.written))
        self.written.append(one)
        for each in self.catalogues:
            each.table._loop = asyncio.get_running_loop()
            each.table._apply([one], one.offset + 1, True)
        done.set_result(Position(topic, 0, one.offset))
        return done


async def test_the_first_of_two_concurrent_changes_wins_everywhere_also_after_compaction() -> None:
    here, there = catalogue(), catalogue()
    topic = Topic(here, there)
    await here.write(topic, change())
    await here.write(topic, change(ENTRY | {"description": "First."}, revision=2))
    with pytest.raises(StaleEventTypeError):
        await there.write(topic, change(ENTRY | {"description": "Second."}, revision=2))
    await there.settle(topic)
    written_records = len(topic.written)
    await here.settle(topic)
    assert len(topic.written) == written_records, "there is nothing left to settle"

    compacted = catalogue()
    compacted._apply([topic.written[-1]])
    for one in (here, there, compacted):
        assert one.types.by_name["refund_issued"].description == "First."
        assert one.next_revision("refund_issued") == 4


class LaterRead(Topic):
    """Written at once, and read a moment later."""

    def send(self, topic: str, *, key: bytes | None, value: bytes | None, **_: Any) -> Any:
        catalogues, self.catalogues = self.catalogues, ()
        done = super().send(topic, key=key, value=value)
        self.catalogues, one = catalogues, self.written[-1]
        for each in catalogues:
            asyncio.get_running_loop().call_later(0.001, each.table._apply, [one], one.offset + 1, True)
        return done


async def test_two_requests_that_settle_at_once_terminate() -> None:
    types = catalogue()
    types.table._loop = asyncio.get_running_loop()
    topic = LaterRead(types)
    for description, revision in (("First.", 1), ("Second.", 2)):
        await types.write(topic, change(ENTRY | {"description": description}, revision=revision))
    with pytest.raises(StaleEventTypeError):
        await types.write(topic, change(ENTRY | {"description": "Too late."}, revision=2))

    async with asyncio.timeout(10):
        await asyncio.gather(types.settle(topic), types.settle(topic))
    assert [types.types.by_name["refund_issued"].description, types.next_revision("refund_issued")] == ["Second.", 4]


def test_former_topics_are_known_after_a_restart() -> None:
    types, heard = catalogue(), list[tuple[str, ...]]()
    types.follow(lambda found: heard.append((*found.more_topics, *found.former_topics)))
    types._apply([written(change(ENTRY | {"topic": "oms.b"}, former_topics=("oms.a", "oms.orders", "__x", "webhooks.attempts")))])
    assert heard[-1] == ("oms.b", "oms.a"), "except those that must not be read, whoever recorded them"
    assert types.former_topics("refund_issued", "oms.c") == ("__x", "oms.a", "oms.b", "webhooks.attempts")
    removed = change(None, revision=2, former_topics=types.former_topics("refund_issued", None))
    types._apply([written(removed, 1)])
    assert heard[-1] == ("oms.a", "oms.b")
    compacted = catalogue()
    compacted._apply([written(removed, 1)])
    assert compacted.types.former_topics == ("oms.a", "oms.b")


def test_the_topic_of_a_type_that_has_moved_to_the_file_is_a_former_one() -> None:
    types = catalogue(EventTypes([ConfiguredEventType("refund_issued", "oms.refunds", "Of the file.", {}, {})]))
    with capture_logs():
        types._apply([written(change(ENTRY | {"topic": "oms.b"}))])
    assert (types.types.more_topics, types.types.former_topics) == (("oms.refunds",), ("oms.b",))
