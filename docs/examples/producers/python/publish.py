"""Publish one event from a file, and wait until Kafka has it.

KAFKA=kafka-1:9092 python publish.py event.json
"""

import json
import os
import sys
from pathlib import Path

from events import topic_and_key
from kafka import KafkaProducer

value = Path(sys.argv[1]).read_bytes()
topic, key = topic_and_key(json.loads(value))
producer = KafkaProducer(
    bootstrap_servers=os.environ["KAFKA"], acks="all", enable_idempotence=True, max_request_size=8 * 1024 * 1024
)
position = producer.send(topic, key=key.encode(), value=value).get(timeout=30)
print(f"{position.topic}, partition {position.partition}, offset {position.offset}")
producer.close()
