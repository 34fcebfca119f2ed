"""Translates kafka-python's errors into ours. No other module reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import (
    AuthorizationError,
    BrokerNotAvailableError,
    CommitFailedError,
    FencedInstanceIdError,
    IllegalGenerationError,
    KafkaError,
    KafkaTimeoutError,
    LogTruncationError,
    OffsetMetadataTooLargeError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    SaslAuthenticationFailedError,
    UnknownMemberIdError,
)

from pipeline.broker.api import Partition
from pipeline.broker.errors import BrokerError, MetadataError, NotMemberError, OutOfRangeError, RefusedError, UnavailableError

_PASSES = (RebalanceInProgressError, CommitFailedError, KafkaTimeoutError, BrokerNotAvailableError)
"""Temporary errors that kafka-python does not call retriable."""
_REMOVED = (UnknownMemberIdError, IllegalGenerationError, FencedInstanceIdError)


def ours(error: KafkaError) -> BrokerError:
    """Our error for an error of kafka-python."""
    if outside := _outside(error):
        return OutOfRangeError(outside)
    if isinstance(error, _REMOVED):
        return NotMemberError(f"{type(error).__name__}: {error}")
    if isinstance(error, OffsetMetadataTooLargeError):
        return MetadataError("the brokers' offset.metadata.max.bytes is less than 4096, Kafka's default")
    if isinstance(error, AuthorizationError | SaslAuthenticationFailedError):
        return RefusedError(f"Kafka does not allow it: {type(error).__name__}: {error}")
    if isinstance(error, _PASSES) or error.retriable:
        return UnavailableError(f"{type(error).__name__}: {error}")
    return RefusedError(f"{type(error).__name__}: {error}")


def _outside(error: KafkaError) -> list[Partition]:
    """The partitions in whose logs a position is not."""
    if isinstance(error, LogTruncationError):  # it may even be in the log again, at another record
        return [Partition(*partition) for partition in error.divergent_offsets]
    if isinstance(error, OffsetOutOfRangeError) and error.args and isinstance(error.args[0], dict):
        return [Partition(*partition) for partition in error.args[0]]
    return []


@contextmanager
def translated() -> Iterator[None]:
    """Translate errors of kafka-python.

    Raises:
        BrokerError: according to `ours`.
    """
    try:
        yield
    except KafkaError as error:
        raise ours(error) from error
