"""Kafka access with confluent-kafka (librdkafka): less CPU time for each record. An extra; chosen with the setting
``kafka_client``.

It joins, fetches and writes. kafka-python administers topics with either client: that is rare, and costs nothing.
"""
