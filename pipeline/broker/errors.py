"""Errors of the connection to Kafka. Clients translate the errors of their libraries into these."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.broker.api import Partition


class BrokerError(Exception):
    """Something went wrong between this process and Kafka::

        BrokerError
         +-- UnavailableError        no answer, or not possible at the moment: try again later
         |    +-- NoSessionError     a client could not connect
         |         +-- MissingClientError   the client that the settings choose is not installed
         +-- NotMemberError          this process is not a member of the group
         +-- OutOfRangeError         a position is not in the log of its partition
         +-- RefusedError            Kafka refuses; trying again does not help
              +-- MetadataError      a commit has more metadata than the brokers accept
              +-- PublishError       a record is not accepted (too large, no permission)
              +-- TopicError         topics could not be created, read or changed

    ``str(error)`` says what is wrong and, if somebody can fix it, what to do. ``needs_operator``: trying again does not help
    until somebody has changed something.
    """

    needs_operator = True

    def __init__(self, message: str, *, needs_operator: bool | None = None) -> None:
        super().__init__(message)
        if needs_operator is not None:
            self.needs_operator = needs_operator


class UnavailableError(BrokerError):
    """Kafka did not answer, or cannot do this at the moment."""

    needs_operator = False


class NoSessionError(UnavailableError):
    """A client could not connect. The message names the servers and says what to do."""


class NotMemberError(BrokerError):
    """The process is not a member of the group, or not of its current generation."""


class OutOfRangeError(BrokerError):
    """Positions that are not in the logs of their partitions."""

    def __init__(self, partitions: Collection[Partition]) -> None:
        super().__init__(f"The position is not in the log of {', '.join(map(str, sorted(partitions)))}.")
        self.partitions = frozenset(partitions)


class RefusedError(BrokerError):
    """Kafka refuses, and trying again does not help."""


class MetadataError(RefusedError):
    """A commit has more metadata than the brokers accept (``offset.metadata.max.bytes``). They accept it without metadata."""


class PublishError(RefusedError):
    """Kafka does not accept a record, and sending it again does not help (too large, no permission, the producer is closed)."""


class TopicError(RefusedError):
    """Topics could not be created, read or changed."""
