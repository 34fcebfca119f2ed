"""What errors of kafka-python mean to the rest of the product."""

from __future__ import annotations

import pytest
from kafka import errors

from pipeline.broker.errors import BrokerError, MetadataError, NotMemberError, RefusedError, UnavailableError
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
def test_errors_are_told_apart_by_what_can_be_done(error: errors.KafkaError, meaning: type[BrokerError]) -> None:
    assert type(ours(error)) is meaning
