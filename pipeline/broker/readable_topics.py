"""Checks whether a process can read topics before a group member subscribes to them: an unreadable one would end the member."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from pipeline.broker.api import Broker, Partition
from pipeline.broker.errors import BrokerError, OutOfRangeError, UnavailableError

_FETCH_BYTES: Final = 64 * 1024
_ANSWER_S: Final = 10.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class ReadableTopics:
    """``readable``: topics whose records can be fetched. ``missing``: they do not exist, or are not visible to this process."""

    readable: Sequence[str] = ()
    missing: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    """Why the other topics cannot be read."""
    unanswered: Collection[str] = ()
    """Those of the refused ones for which no broker answered in time, which says nothing about the topic."""
    ids: Mapping[str, UUID] = field(default_factory=dict)


def check_topics(broker: Broker, topics: Sequence[str]) -> ReadableTopics:
    """Find out which topics can be read. Blocks.

    Raises:
        BrokerError: Kafka does not answer.
    """
    with broker.admin(_ANSWER_S) as admin:
        known = set(admin.names())
        there = [topic for topic in topics if topic in known]
        ids = admin.ids(there) if there else {}
    missing = [topic for topic in topics if topic not in known]
    errors: dict[str, BrokerError] = {}
    if there and _refusal(broker, there) is not None:  # find out which topics
        errors = {topic: refusal for topic in there if (refusal := _refusal(broker, [topic])) is not None}
    refused = {topic: str(error) for topic, error in errors.items()}
    unanswered = [topic for topic, error in errors.items() if isinstance(error, UnavailableError)]
    return ReadableTopics([topic for topic in there if topic not in refused], missing, refused, unanswered, ids)


def _refusal(broker: Broker, topics: Sequence[str]) -> BrokerError | None:
    """Why records of the topics cannot be fetched; None if they can."""
    client = broker.fetch_client(partition_bytes=_FETCH_BYTES)
    partitions = [Partition(topic, 0) for topic in topics]
    try:
        bounds = client.bounds(partitions)
        client.assign({partition: bounds[partition].first for partition in partitions})
        until, unanswered = time.monotonic() + _ANSWER_S, set(partitions)
        while unanswered:
            try:
                client.pause([partition for partition in partitions if partition not in unanswered])
                unanswered -= client.poll(_POLL_S).keys()
            except OutOfRangeError as error:  # their first records have just been removed, so they are readable
                unanswered -= error.partitions
            unanswered = {partition for partition in unanswered if client.end(partition) is None}
            if unanswered and time.monotonic() > until:
                raise UnavailableError(f"no broker has answered for {', '.join(map(str, sorted(unanswered)[:3]))}")
    except BrokerError as error:
        return error
    finally:
        client.close()
    return None
