"""Reads the evidence of a run: Kafka's topics, ClickHouse's tables, the ledger. Its calls block."""

from __future__ import annotations

from collections import Counter

import clickhouse_connect
import httpx
import msgspec

from tests.faults.deployment import CLICKHOUSE_PASSWORD, Deployment
from tests.faults.evidence import Evidence, StoredRow, attempt_records, dispatch_rows, scheduled, set_aside


class _HasId(msgspec.Struct):
    id: str


def collect(deployment: Deployment) -> Evidence:
    """Return the evidence of a settled run."""
    topics, paths, kafka = deployment.settings.topics, deployment.paths, deployment.kafka
    deployment.receivers.ledger.read_on()
    evidence = Evidence(
        events=deployment.events,
        requests=deployment.receivers.ledger.requests,
        attempts=[attempt for record in kafka.records([topics.attempts]) for attempt in attempt_records(record, paths)],
        dispatches=[row for record in kafka.records([topics.dispatches]) for row in dispatch_rows(record)],
        scheduled=[scheduled(record, paths, topics) for record in kafka.records(topics.delay_topics)],
        dead_letters=[set_aside(record) for record in kafka.records([topics.dead_letters])],
        published_twice=_published_twice(deployment),
    )
    if any(process.role == "recorder" for process in deployment.roles.values()):
        evidence.stored_attempts = _stored(deployment, "attempts", "id")
        evidence.stored_dispatches = _stored(deployment, "events", "event_id")
        evidence.stored_dead_letters = _stored(deployment, "dead_letters", "0")
    return evidence


def _published_twice(deployment: Deployment) -> Counter[str]:
    """Return events that are in their source topic more than once; the topics are read only if their ends show that there are any."""
    sources = deployment.settings.topics.sources
    published = sum(deployment.kafka.ends(sources).values()) - deployment.hostile_records
    if published == len(deployment.events):
        return Counter()
    known = {event.id for event in deployment.events}
    ids = (msgspec.json.decode(record.value, type=_HasId).id for record in deployment.kafka.records(sources))
    copies = Counter(identifier for identifier in ids if identifier in known)
    return Counter({identifier: count - 1 for identifier, count in copies.items() if count > 1})


def _stored(deployment: Deployment, table: str, identifier: str) -> list[StoredRow]:
    url = httpx.URL(deployment.settings.clickhouse_url)
    client = clickhouse_connect.get_client(
        host=url.host, port=url.port or 0, password=CLICKHOUSE_PASSWORD, database=deployment.settings.clickhouse_database
    )
    try:
        rows = client.query(f"SELECT kafka_partition, kafka_offset, {identifier} FROM {table}").result_rows
    finally:
        client.close()
    return [StoredRow(*row) for row in rows]
