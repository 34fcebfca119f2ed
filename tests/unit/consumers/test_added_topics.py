"""The fan-out learns of topics while it runs: it reads what it can, tells of what it cannot, and looks again."""

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
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.added_topics._FIRST_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr("consumers.added_topics._AGAIN_SECONDS", 0.01)


async def test_what_is_there_is_read_from_the_start_and_what_comes_later_as_soon_as_it_is_known() -> None:
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
    assert set(known[-1]) == {REFUNDS, "eu.oms.b", "eu.oms.c"}, (
        "so that one that is recreated is told from them, also after a restart"
    )


async def test_a_topic_that_cannot_be_read_stops_no_other_and_is_told_and_looked_at_again() -> None:
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
        told = scene.added.warning() or ""
        assert "eu.oms.refunds is not read: TopicAuthorizationFailedError" in told
        assert "grants --role fanout --event-topic oms.refunds" in told
        assert "eu.oms.c is not read: it does not exist" in told
        assert metrics.UNREAD_TOPICS._value.get() == 2
        scene.broker.faults.unreadable.clear()
        scene.broker.cluster.create("eu.oms.c")
        await until(lambda: len(scene.read) == 3)
        await until(lambda: scene.added.warning() is None)
    assert metrics.UNREAD_TOPICS._value.get() == 0


async def test_while_kafka_is_away_the_start_does_not_wait_for_ever() -> None:
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


async def test_a_former_topic_is_read_while_there_is_one() -> None:
    scene = Scene()
    scene.broker.cluster.create(REFUNDS)
    scene.catalogue._apply([written(change(None, former_topics=("oms.gone", "oms.refunds")))])
    async with scene.running():
        assert scene.read == [REFUNDS]
        assert scene.added.warning() is None, "with a topic, its records are gone"
        assert scene.added._wanted() == [], "and nobody looks for it again and again"


async def test_a_topic_that_was_recreated_is_not_read_before_somebody_says_so() -> None:
    scene = Scene()
    scene.broker.cluster.create(REFUNDS)
    scene.ids.learn(TopicIdsRecord(ids={REFUNDS: str(uuid4())}, at=NOON))
    scene.add()
    async with scene.running():
        assert scene.read == []
        assert f"topics --accept-recreated {REFUNDS}" in (scene.added.warning() or "")
        assert scene.ids.recreated() == [], "the process does its work: the others are read"
        scene.ids.learn(scene.ids.record_accepting([REFUNDS], NOON))
        await until(lambda: scene.read == [REFUNDS])


async def test_should_it_end_by_itself_log_and_health_say_so_and_the_process_can_still_stop() -> None:
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


async def test_if_the_start_is_cancelled_nothing_of_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
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
