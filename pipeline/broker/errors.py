"""Errors of the connection to Kafka. Clients translate the errors of their libraries into these."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.broker.api import Partition


class BrokerError(Exception):
    """Something went wrong between this process and Kafka::

        BrokerError
         +-- UnavailableError        no answer, or none for now: ask again later
         |    +-- NoSessionError     a client could not be started
         +-- NotMemberError          the group does not count this process among its members
         +-- OutOfRangeError         a position is not in the log of its partition
         +-- RefusedError            the answer is no, and asking again changes nothing
              +-- MetadataError      there is more beside an offset than the brokers take
              +-- PublishError       a record is not taken (too large, no permission)
              +-- TopicError         topics could not be made, read or changed

    ``str(error)`` says what is wrong and, where somebody can do something about it, what to do. ``needs_a_person``: trying again is of no
    use before somebody has changed something.
    """

    needs_a_person = True

    def __init__(self, message: str, *, needs_a_person: bool | None = None) -> None:
        super().__init__(message)
        if needs_a_person is not None:
            self.needs_a_person = needs_a_person


class UnavailableError(BrokerError):
    """Kafka did not answer, or cannot do this now."""

    needs_a_person = False


class NoSessionError(UnavailableError):
    """A client could not be started; the message names the servers and says what to do."""


class NotMemberError(BrokerError):
    """The group does not count this process among its members, or not in this generation."""


class OutOfRangeError(BrokerError):
    """Positions that are not in the logs of their partitions."""

    def __init__(self, partitions: Collection[Partition]) -> None:
        super().__init__(f"The position is not in the log of {', '.join(map(str, sorted(partitions)))}.")
        self.partitions = frozenset(partitions)


class RefusedError(BrokerError):
    """Kafka refuses, and asking again does not help."""


class MetadataError(RefusedError):
    """The brokers accept less metadata with a commit than it has (``offset.metadata.max.bytes``); they accept the commit without
    it.
    """


class PublishError(RefusedError):
    """Kafka does not accept a record, and sending it again does not help (too large, no permission, the producer is closed)."""


class TopicError(RefusedError):
    """Topics could not be created, read or changed."""
