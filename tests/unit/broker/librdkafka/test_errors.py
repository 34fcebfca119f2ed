"""What librdkafka's errors mean."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from pipeline.broker.errors import BrokerError, MetadataError, NotMemberError, RefusedError, UnavailableError
from pipeline.broker.librdkafka.errors import ours, translated


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (KafkaError.UNKNOWN_MEMBER_ID, NotMemberError),
        (KafkaError.FENCED_INSTANCE_ID, NotMemberError),
        (KafkaError._MAX_POLL_EXCEEDED, NotMemberError),
        (KafkaError.REBALANCE_IN_PROGRESS, UnavailableError),
        (KafkaError._TIMED_OUT, UnavailableError),
        (KafkaError._ALL_BROKERS_DOWN, UnavailableError),
        (-137, UnavailableError),  # _DESTROY_BROKER: a role ended with it when its only broker went away
        (KafkaError._RETRY, UnavailableError),
        (KafkaError.NOT_ENOUGH_REPLICAS, UnavailableError),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, UnavailableError),
        (KafkaError.OFFSET_METADATA_TOO_LARGE, MetadataError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, RefusedError),
        (KafkaError.INVALID_SESSION_TIMEOUT, RefusedError),
        (KafkaError.MSG_SIZE_TOO_LARGE, RefusedError),
    ],
)
def test_each_error_has_one_meaning(code: int, meaning: type[BrokerError]) -> None:
    assert type(ours(KafkaError(code))) is meaning
    with pytest.raises(meaning), translated():
        raise KafkaException(KafkaError(code))
