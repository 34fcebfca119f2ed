"""The way to Kafka over confluent-kafka (librdkafka): less CPU time a record. An extra; chosen by the setting ``kafka_client``.

It joins, fetches and writes. Topics are administered by kafka-python with either client: that is rare, and costs nothing.
"""
