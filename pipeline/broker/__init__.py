"""Kafka: consumers, the producer, the compacted table, topics.

`api.py` defines the protocols that a client implements and the values that they exchange; `errors.py` and `topic_admin.py` belong
to it. `kafka/`, `librdkafka/` and `memory/` implement it, and no other code knows which one is in use. Uses `core` and `ops`.
Start reading in `api.py`, then `consumer.py`.
"""
