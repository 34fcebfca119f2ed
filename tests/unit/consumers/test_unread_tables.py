"""A topic kept in memory that can no longer be read is reported. The process continues, and stays ready."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from consumers.grants import Grantee, used_topics
from consumers.unread_tables import UnreadTables
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.readable_topics import ReadableTopics
from pipeline.ops import metrics
from schemas.topics import Topics

TOPICS = Topics([], "eu.")


def monitored(role: Grantee) -> tuple[MemoryBroker, UnreadTables]:
    broker = MemoryBroker()
    read, _ = used_topics([role], TOPICS)
    for topic in read:
        broker.cluster.create(topic)
    return broker, UnreadTables(broker, TOPICS, read)


async def test_an_unreadable_topic_is_reported_until_it_can_be_read_again() -> None:
    broker, tables = monitored(Grantee.FANOUT)
    await tables.look()
    assert (tables.warning(), metrics.UNREAD_TABLES._value.get()) == (None, 0)
    broker.faults.unreadable.add(TOPICS.endpoints)
    with capture_logs() as lines:
        await tables.look()
        await tables.look()
        text = tables.warning() or ""
        assert text.startswith(f"{TOPICS.endpoints} can no longer be read: TopicAuthorizationFailedError")
        assert metrics.UNREAD_TABLES._value.get() == 1
        broker.faults.unreadable.clear()
        await tables.look()
    assert (tables.warning(), metrics.UNREAD_TABLES._value.get()) == (None, 0)
    assert [line["event"].rpartition(" can ")[2] for line in lines] == ["no longer be read", "be read again"], "once each"


async def test_a_deleted_topic_is_reported_although_its_reader_gets_no_error() -> None:
    broker, tables = monitored(Grantee.API)
    del broker.cluster.topics[TOPICS.api_keys]
    await tables.look()
    assert f"{TOPICS.api_keys} can no longer be read: it does not exist" in (tables.warning() or "")


async def test_nothing_new_is_reported_while_kafka_is_away() -> None:
    broker, tables = monitored(Grantee.RETRY)
    broker.cluster.is_away = True
    await tables.look()
    assert tables.warning() is None


async def test_a_topic_whose_broker_does_not_answer_is_not_called_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    _, tables = monitored(Grantee.FANOUT)
    found = [
        ReadableTopics(refused={TOPICS.endpoints: "KafkaTimeoutError"}, unanswered=[TOPICS.endpoints]),
        ReadableTopics(refused={TOPICS.endpoints: "TopicAuthorizationFailedError"}),
        ReadableTopics(refused={TOPICS.endpoints: "KafkaTimeoutError"}, unanswered=[TOPICS.endpoints]),
    ]
    monkeypatch.setattr("consumers.unread_tables.check_topics", lambda *_: found.pop(0))
    reported = []
    for _ in range(3):
        await tables.look()
        reported.append("TopicAuthorizationFailedError" in (tables.warning() or ""))
    assert reported == [False, True, True]
