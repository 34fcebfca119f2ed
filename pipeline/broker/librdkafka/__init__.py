"""Kafka access with confluent-kafka (librdkafka): less CPU time per record. An extra, chosen with the setting ``kafka_client``.

It joins, fetches and writes. Topics are always administered with kafka-python: that is rare, and costs little. Uses confluent-kafka,
`ops` and `core`. Start reading in `broker.py`, then `group_client.py`.
"""
