"""Translates librdkafka's errors into ours. No other module knows its error codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from pipeline.broker.errors import BrokerError, MetadataError, NotMemberError, RefusedError, UnavailableError

# The names of librdkafka's own codes begin with an underscore, but they are public.
# ruff: noqa: SLF001
_REMOVED: Final = frozenset(
    {
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._ASSIGNMENT_LOST,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError._FENCED,
    }
)
_FORBIDDEN: Final = frozenset(
    {
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
    }
)
BROKERS_AWAY: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
    }
)
"""A connection failed; the client reconnects by itself."""
_PASSES: Final = BROKERS_AWAY | frozenset(
    {
        KafkaError._MSG_TIMED_OUT,
        KafkaError._WAIT_COORD,
        KafkaError._WAIT_CACHE,
        KafkaError._DESTROY,
        getattr(KafkaError, "_DESTROY_BROKER", -137),  # the contacted broker is unavailable; older releases have no name for it
        KafkaError._RETRY,
        KafkaError._OUTDATED,
        KafkaError._INTR,
        KafkaError._NODE_UPDATE,
        KafkaError._ISR_INSUFF,
        KafkaError._IN_PROGRESS,
        KafkaError._PREV_IN_PROGRESS,
        KafkaError._QUEUE_FULL,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_BROKER,
        KafkaError._NO_OFFSET,
        KafkaError._STATE,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
        KafkaError.REBOOTSTRAP_REQUIRED,
        KafkaError.UNKNOWN_TOPIC_ID,
    }
)
OUT_OF_RANGE: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION})
GROUP_ERRORS: Final = frozenset({KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._WAIT_COORD, KafkaError.NOT_COORDINATOR})
"""Irrelevant for a reader outside of any group: librdkafka looks for a coordinator anyway."""
AUTHENTICATION_FAILED: Final = KafkaError._AUTHENTICATION
PARTITION_END: Final = KafkaError._PARTITION_EOF
"""The reader has reached the end of a partition, which is not a failure."""
UNKNOWN_PARTITION: Final = KafkaError._UNKNOWN_PARTITION
UNKNOWN_TOPIC: Final = KafkaError.UNKNOWN_TOPIC_OR_PART


def is_fatal(error: KafkaError) -> bool:
    """Whether the client that reports it is no longer usable."""
    return error.fatal() or error.code() == KafkaError._FATAL


def ours(error: KafkaError) -> BrokerError:
    """Our error for an error of librdkafka."""
    text, code = f"{error.name()}: {error.str()}", error.code()
    if code in _REMOVED:
        return NotMemberError(text)
    if code == KafkaError.OFFSET_METADATA_TOO_LARGE:
        return MetadataError("the brokers' offset.metadata.max.bytes is less than 4096, Kafka's default")
    if code in _FORBIDDEN:
        return RefusedError(f"Kafka does not allow it: {text}")
    if code in _PASSES or error.retriable():
        return UnavailableError(text)
    return RefusedError(text)


def error_of(exception: KafkaException) -> KafkaError:
    """The error in an exception of librdkafka."""
    error = exception.args[0]
    return error if isinstance(error, KafkaError) else KafkaError(KafkaError._FAIL, str(exception))


@contextmanager
def translated() -> Iterator[None]:
    """Translate errors of librdkafka.

    Raises:
        BrokerError: according to `ours`.
    """
    try:
        yield
    except KafkaException as exception:
        raise ours(error_of(exception)) from exception
