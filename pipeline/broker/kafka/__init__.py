"""Kafka access with kafka-python, the default.

Implements the protocols of `pipeline.broker.api`, and uses kafka-python, `ops` and `core`. `compat.py` is the only module that uses
private parts of kafka-python. Start reading in `broker.py`, then `group_client.py`.
"""
