"""``oms-webhooks topics --accept-recreated``: accepts a topic that was deleted and created again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from pipeline.broker.api import Broker
from pipeline.broker.errors import TopicError
from pipeline.broker.factory import open_broker
from pipeline.broker.producer import Producer
from pipeline.broker.topic_ids import TopicIds
from pipeline.endpoints.health import HealthTable
from pipeline.ops.clock import utc_now
from pipeline.ops.daemon_threads import in_thread
from pipeline.ops.settings import Settings
from pipeline.store.connection import Connections, StoreRejectedError
from pipeline.store.rows import Table
from pipeline.store.writer import Writer
from schemas.codec import to_json
from schemas.topic_ids import TOPIC_IDS_KEY
from schemas.topics import Topics

_READERS: Final = "the groups' committed offsets for it are deleted, and it is read from its beginning"


async def accept_recreated_topic(settings: Settings, topic: str, *, confirm: Callable[[str], bool]) -> None:
    """Forget the state of the deleted topic, if ``confirm``, which gets an explanation, returns true.

    Raises:
        BrokerError: there is no such topic, the topic is being read, or Kafka refuses.
        StoreError: ClickHouse does not answer.
    """
    topics, broker = settings.topics, open_broker(settings)
    with broker.admin() as admin:
        ids = TopicIds([topic])
        ids.note_current(await in_thread(lambda: admin.ids([spec.name for spec in topics.specs()]), "topic ids"))
        if topic not in {spec.name for spec in topics.specs()}:
            raise TopicError(f"{topic} is not one of our topics; `oms-webhooks topics` lists them.")
        if not ids.is_there(topic):
            raise TopicError(
                f"Kafka reports no id for {topic}: the topic is missing, or the broker has no topic ids. Create it with `oms-webhooks topics --create`."
            )
        await _refuse_what_is_recorded(settings, topic)
        if not confirm(f"{topic}: {_READERS}. First stop the roles that read it."):
            return
        for group in groups_that_read(topics, topic):
            await in_thread(partial(admin.forget_commits, group, topic), "commits")
    await _write_down(settings, broker, ids, topic)


def groups_that_read(topics: Topics, topic: str) -> list[str]:
    """The groups that may have committed offsets for a topic."""
    readers = {
        topics.fanout_group: (*topics.sources, topics.operational_events),
        topics.retry_group: topics.delay_topics,
        topics.recorder_group: topics.recorded,
        topics.held_group: (topics.held,),
        topics.ordered_group: (topics.ordered,),
    }
    return [group for group, read in readers.items() if topic in read]


async def _refuse_what_is_recorded(settings: Settings, topic: str) -> None:
    """ClickHouse stores rows with their offsets, so records of the new topic would be mistaken for old ones."""
    tables = dict(zip(settings.topics.recorded, _TABLES, strict=True))
    if topic not in tables:
        return
    connections = Connections(settings)
    try:
        through = await Writer(connections).last_offset(tables[topic])
    except StoreRejectedError as error:
        if "UNKNOWN_DATABASE" not in str(error):
            raise
        return  # a new database that the recorder has not created yet
    finally:
        await connections.close()
    if through is not None:
        message = (
            f"ClickHouse holds rows of {topic} up to offset {through:,}. The recorder would mistake new records for these. Set clickhouse_database "
            "to a new database for the recorder, the API and this command, then run this command again."
        )
        raise TopicError(message)


_TABLES: Final = (Table.ATTEMPTS, Table.EVENTS, Table.DEAD_LETTERS, Table.ENDPOINT_CHANGES, Table.AUDIT_LOG)
"""In the order of `Topics.recorded`."""


async def _write_down(settings: Settings, broker: Broker, ids: TopicIds, topic: str) -> None:
    health = HealthTable(broker, settings.topics.endpoint_health, on_topic_ids=ids.learn)
    await health.table.start()
    await health.table.stop()
    producer = Producer(broker, [settings.topics.endpoint_health])
    await producer.start()
    try:
        record = ids.record_accepting([topic], utc_now())
        await producer.send(settings.topics.endpoint_health, key=TOPIC_IDS_KEY, value=to_json(record))
    finally:
        await producer.close()
