"""The transactional outbox: events are written in the transaction that makes them true, and a relay publishes them.

psql --file ../outbox.sql
pip install -r requirements.txt
DATABASE_URL=postgresql://... KAFKA=kafka-1:9092 python outbox.py
"""

import os
import time

import psycopg
from events import to_json, topic_and_key
from kafka import KafkaProducer

BATCH = 500
ONE_RELAY = 730501  # the number of an advisory lock; any that nobody else in this database uses


def put(connection: psycopg.Connection, event: dict) -> None:
    """Write an event. Call it in the transaction that makes the event true: both happen, or neither."""
    topic, key = topic_and_key(event)
    connection.execute("INSERT INTO webhook_outbox (topic, key, value) VALUES (%s, %s, %s)", [topic, key, to_json(event)])


def relay(connection: psycopg.Connection, producer: KafkaProducer) -> int:
    """Publish the oldest events, and delete them when Kafka has acknowledged all; returns how many.

    If it dies in between, they are published again with the same ids, by which receivers recognize them.
    """
    with connection.transaction():
        # Rows may be committed in another order than their positions. No row is skipped, because no position is remembered.
        rows = connection.execute(
            "SELECT position, topic, key, value FROM webhook_outbox ORDER BY position LIMIT %s", [BATCH]
        ).fetchall()
        sent = [producer.send(topic, key=key.encode(), value=value.encode()) for _, topic, key, value in rows]
        for one in sent:
            one.get(timeout=60)
        connection.execute("DELETE FROM webhook_outbox WHERE position = ANY(%s)", [[row[0] for row in rows]])
    return len(rows)


def main() -> None:
    """Relay until something fails. Then exit, so that the supervisor of this process restarts it."""
    producer = KafkaProducer(
        bootstrap_servers=os.environ["KAFKA"], acks="all", enable_idempotence=True, max_request_size=8 * 1024 * 1024
    )
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        # One relay at a time keeps the order. A second one waits here, and takes over when the first one disconnects.
        connection.execute("SELECT pg_advisory_lock(%s)", [ONE_RELAY])
        while True:
            if relay(connection, producer) == 0:
                time.sleep(0.2)


if __name__ == "__main__":
    main()
