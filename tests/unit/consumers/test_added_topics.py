"""The fan-out discovers topics while it runs: it reads those that it can, reports those that it cannot, and tries again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from consumers.added_topics import AddedTopics
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.readable_topics import ReadableTopics
from pipeline.broker.topic_ids import TopicIds
from pipeline.endpoints.event_type_catalogue import EventTypeCatalogue
from pipeline.ops import metrics
from schemas.codec import from_json
from schemas.event_types import BUILT_IN
from schemas.topic_ids import TopicIdsRecord
from schemas.topics import Topics
from tests.unit.endpoints.test_event_type_catalogue import ENTRY, NOON, change, written
from tests.unit.fake_kafka import FakeProducer, settle
from tests.waiting import until

TOPICS = Topics([], "eu.")
REFUNDS = "eu.oms.refunds"


@dataclass
class Scene:
    """A process that follows the event types."""

    broker: MemoryBroker = field(default_factory=MemoryBroker)
    producer: FakeProducer = field(default_factory=FakeProducer)
    read: list[str] = field(default_factory=list)
    ids: TopicIds = field(default_factory=lambda: TopicIds(TOPICS.sources))

    def __post_init__(self) -> None:
        self.catalogue = EventTypeCatalogue(self.broker, TOPICS.event_types, BUILT_IN)
        self.added = AddedTopics(self.broker, self.producer, TOPICS, self.catalogue, self.ids, self.read.extend)

    def add(self, topic: str = "oms.refunds", **fields: Any) -> None:
        self.catalogue._apply([written(change(ENTRY | {"topic": topic}, **fields))])

    @asynccontextmanager
    async def running(self) -> Any:
        await self.added.start()
        try:
            yield
        finally:
            await self.added.stop()


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.added_topics._FIRST_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr("consumers.added_topics._AGAIN_SECONDS", 0.01)


async def test_existing_topics_are_read_from_the_start_and_new_ones_once_known() -> None:
    scene = Scene()
    for topic in (REFUNDS, "eu.oms.b", "eu.oms.c", "eu.oms.orders"):
        scene.broker.cluster.create(topic)
    scene.add()
    async with scene.running():
        assert scene.read == [REFUNDS], "before the group is joined"
        scene.add("oms.b", revision=2)
        await until(lambda: "eu.oms.b" in scene.read)
        scene.add("oms.orders", revision=3)
        await until(lambda: not scene.added._changed.is_set())
        scene.add("oms.c", revision=4)
        await until(lambda: "eu.oms.c" in scene.read)
    assert scene.read == [REFUNDS, "eu.oms.b", "eu.oms.c"], "each once; oms.orders is read anyway"
    assert scene.added.warning() is None
    known = [from_json(sent.value, TopicIdsRecord).ids for sent in scene.producer.sent]
    assert set(known[-1]) == {REFUNDS, "eu.oms.b", "eu.oms.c"}, "so that a recreated topic is recognized, even after a restart"


async def test_an_unreadable_topic_is_reported_and_retried_and_blocks_no_other() -> None:
    scene = Scene()
    scene.broker.cluster.create("eu.oms.b")
    scene.broker.cluster.create(REFUNDS)
    scene.broker.faults.unreadable.add(REFUNDS)
    scene.catalogue._apply(
        [
            written(change(ENTRY | {"topic": "oms.refunds"})),
            written(change(ENTRY | {"name": "a_b", "topic": "oms.b"}, "a_b"), 1),
            written(change(ENTRY | {"name": "a_c", "topic": "oms.c"}, "a_c"), 2),
        ]
    )
    async with scene.running():
        assert scene.read == ["eu.oms.b"]
        text = scene.added.warning() or ""
        assert "eu.oms.refunds is not read: TopicAuthorizationFailedError" in text
        assert "grants --role fanout --event-topic oms.refunds" in text
        assert "eu.oms.c is not read: it does not exist" in text
        assert metrics.UNREAD_TOPICS._value.get() == 2
        scene.broker.faults.unreadable.clear()
        scene.broker.cluster.create("eu.oms.c")
        await until(lambda: len(scene.read) == 3)
        await until(lambda: scene.added.warning() is None)
    assert metrics.UNREAD_TOPICS._value.get() == 0


async def test_the_start_does_not_wait_forever_while_kafka_is_away() -> None:
    scene = Scene()
    scene.broker.cluster.create(REFUNDS)
    scene.broker.cluster.is_away = True
    scene.add()
    async with scene.running():
        assert scene.read == []
        assert "It is not known whether eu.oms.refunds can be read" in (scene.added.warning() or "")
        scene.broker.cluster.is_away = False
        await until(lambda: scene.read == [REFUNDS])
        await until(lambda: scene.added.warning() is None)


async def test_a_former_topic_is_read_while_it_exists() -> None:
    scene = Scene()
    scene.broker.cluster.create(REFUNDS)
    scene.catalogue._apply([written(change(None, former_topics=("oms.gone", "oms.refunds")))])
    async with scene.running():
        assert scene.read == [REFUNDS]
        assert scene.added.warning() is None, "a deleted topic has no records left"
        assert scene.added._wanted() == [], "nobody keeps looking for it"


async def test_a_recreated_topic_is_not_read_until_it_is_accepted() -> None:
    scene = Scene()
    scene.broker.cluster.create(REFUNDS)
    scene.ids.learn(TopicIdsRecord(ids={REFUNDS: str(uuid4())}, at=NOON))
    scene.add()
    async with scene.running():
        assert scene.read == []
        assert f"topics --accept-recreated {REFUNDS}" in (scene.added.warning() or "")
        assert scene.ids.recreated() == [], "the process keeps working, and reads the others"
        scene.ids.learn(scene.ids.record_accepting([REFUNDS], NOON))
        await until(lambda: scene.read == [REFUNDS])


async def test_if_discovery_fails_log_and_health_report_it_and_the_process_can_stop() -> None:
    def fail(_: Sequence[str]) -> None:
        raise ValueError("a bug")

    scene = Scene()
    with capture_logs() as lines:
        async with scene.running():
            scene.broker.cluster.create(REFUNDS)
            scene.added._on_readable = fail
            scene.add()
            await until(
                lambda: any(line["log_level"] == "error" and "no longer discovers new topics" in line["event"] for line in lines)
            )
            assert "Restart it" in str(scene.added.warning())
    assert scene.read == []


async def test_a_cancelled_start_leaves_nothing_running(monkeypatch: pytest.MonkeyPatch) -> None:
    looking: list[threading.Thread] = []
    answer = threading.Event()

    def look(_: object, topics: Sequence[str]) -> ReadableTopics:
        looking.append(threading.current_thread())
        answer.wait(30)
        return ReadableTopics(topics)

    monkeypatch.setattr("consumers.added_topics.check_topics", look)
    scene = Scene()
    scene.add()
    starting = asyncio.create_task(scene.added.start())
    await until(lambda: looking)
    starting.cancel()
    await asyncio.wait([starting])
    answer.set()
    await until(lambda: not looking[0].is_alive())
    await settle()
    assert (starting.cancelled(), scene.read) == (True, [])
