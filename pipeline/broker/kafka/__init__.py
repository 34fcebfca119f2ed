"""Kafka access with kafka-python, the default."""
