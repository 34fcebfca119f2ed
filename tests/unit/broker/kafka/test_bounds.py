"""Where partitions begin and end, when kafka-python cannot tell."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import pytest
from kafka import KafkaConsumer, TopicPartition

from pipeline.broker.api import OffsetRange, Partition
from pipeline.broker.errors import UnavailableError
from pipeline.broker.kafka.group_client import bounds


class Consumer:
    """Knows the offsets of one topic. For any other topic, kafka-python finds none in the brokers' answer."""

    def beginning_offsets(self, partitions: Collection[TopicPartition], **_: Any) -> dict[TopicPartition, int]:
        known = {TopicPartition("known", 0): 3}
        return {partition: known[partition] for partition in partitions}

    end_offsets = beginning_offsets


def test_a_topic_deleted_in_the_meantime_is_reported_as_unavailable() -> None:
    consumer = cast("KafkaConsumer", Consumer())
    assert bounds(consumer, [Partition("known", 0)]) == {Partition("known", 0): OffsetRange(3, 3)}
    with pytest.raises(UnavailableError, match="deleted"):
        bounds(consumer, [Partition("known", 0), Partition("deleted", 0)])
