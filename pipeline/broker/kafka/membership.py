"""A member of a group as kafka-python sees it: when it joins, and what comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kafka import KafkaConsumer
from kafka.consumer.subscription_state import ConsumerRebalanceListener


def see_join_through(consumer: KafkaConsumer) -> bool:
    """Ask for the join that the consumer has to make, or has begun, until it is over. Returns whether there is one.

    kafka-python 3.0.12 forgets a join that it began because a topic has grown, and that ends between two polls: the topic is as it was at the
    join by then, nobody looks at what the join came to, and without heartbeats the member is put out of the group and never learns
    of it. The Java client asks so too (KAFKA-9815). kafka-python does not tell of any of this in public.
    """
    coordinator = consumer._coordinator  # noqa: SLF001
    if not coordinator.need_rejoin() and not coordinator.rejoining:
        return False
    coordinator.request_rejoin()
    return True


class Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python is untyped
    """Tells of partitions that come and go. Called on kafka-python's I/O thread while the poll thread waits inside poll() or close()."""

    def __init__(self, consumer: KafkaConsumer, assigned: Callable[[Iterable[Any]], None], revoked: Callable[..., None]) -> None:
        """``revoked`` takes the consumer, the partitions, and ``lost``: whether they are another member's already."""
        self._consumer = consumer
        self._assigned = assigned
        self._revoked = revoked

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._assigned(assigned)

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self._revoked(self._consumer, revoked, lost=False)

    def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        self._revoked(self._consumer, lost, lost=True)
