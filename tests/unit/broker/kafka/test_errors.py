"""What errors of kafka-python mean to the rest of the product."""

from __future__ import annotations

import pytest
from kafka import OffsetAndMetadata, TopicPartition, errors

from pipeline.broker.api import Partition
from pipeline.broker.errors import BrokerError, MetadataError, NotMemberError, OutOfRangeError, RefusedError, UnavailableError
from pipeline.broker.kafka.errors import ours


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (errors.KafkaConnectionError("111 ECONNREFUSED"), UnavailableError),
        (errors.NotCoordinatorError(), UnavailableError),
        (errors.NotEnoughReplicasError(), UnavailableError),
        (errors.RequestTimedOutError(), UnavailableError),
        (errors.KafkaTimeoutError(), UnavailableError),
        (errors.RebalanceInProgressError(), UnavailableError),
        (errors.BrokerNotAvailableError(), UnavailableError),
        (errors.UnknownMemberIdError(), NotMemberError),
        (errors.IllegalGenerationError(), NotMemberError),
        (errors.OffsetMetadataTooLargeError(), MetadataError),
        (errors.GroupAuthorizationFailedError(), RefusedError),
        (errors.InvalidSessionTimeoutError(), RefusedError),
    ],
)
def test_errors_are_translated_by_what_can_be_done(error: errors.KafkaError, meaning: type[BrokerError]) -> None:
    assert type(ours(error)) is meaning


@pytest.mark.parametrize(
    "error",
    [
        errors.OffsetOutOfRangeError({TopicPartition("t", 3): 100}),
        errors.LogTruncationError({TopicPartition("t", 3): OffsetAndMetadata(80, "", 4)}),
        errors.LogTruncationError({TopicPartition("t", 3): None}),
    ],
)
def test_a_log_that_lost_records_already_read_stops_no_reader(error: errors.KafkaError) -> None:
    translated = ours(error)
    assert isinstance(translated, OutOfRangeError)
    assert translated.partitions == {Partition("t", 3)}
