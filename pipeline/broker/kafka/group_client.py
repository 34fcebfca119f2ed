"""A member of a group, with kafka-python."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import FencedInstanceIdError, KafkaError
from kafka.structs import MemberState

from pipeline.broker.api import Committed, Membership, OffsetRange, Partition, RebalanceListener
from pipeline.broker.errors import BrokerError, NotMemberError, UnavailableError
from pipeline.broker.kafka.committed_offsets import text_of
from pipeline.broker.kafka.compat import Hooks
from pipeline.broker.kafka.errors import ours, translated
from pipeline.broker.kafka.leave_group import remove_static_member
from pipeline.broker.kafka.session import opening_session
from pipeline.ops.logs import logger

log = logger(__name__)

_COMMIT_MS: Final = 2_000
_READ_MS: Final = 5_000
_CLOSE_MS: Final = 2_000
_JOINED: Final = MemberState.STABLE


@dataclass(frozen=True, slots=True)
class MemberIdentity:
    """The identity for joining. ``instance_id``: for static membership, the name that the member keeps across restarts."""

    group: str
    topics: Collection[str]
    instance_id: str | None


class KafkaGroupClient:
    """See `pipeline.broker.api.GroupClient`. All of its partitions are paused, so that it fetches nothing."""

    def __init__(
        self,
        config: dict[str, Any],
        identity: MemberIdentity,
        listener: RebalanceListener,
        *,
        hooks: Hooks,
        on_replaced: Callable[[], None],
    ) -> None:
        """Connect. ``on_replaced`` is called if another living process has the same name.

        Raises:
            NoSessionError: no broker accepted the client.
        """
        self._config = config
        self._group = group = identity.group
        self._instance_id = instance_id = identity.instance_id
        self._hooks = hooks
        self._on_replaced = on_replaced
        joining = {
            "group_id": group,
            "partition_assignment_strategy": [CooperativeStickyAssignor()],
            # This client does not read, and no policy may decide where to start.
            "auto_offset_reset": "none",
        }
        if instance_id is not None:
            joining["group_instance_id"] = instance_id
        with opening_session(config) as met:
            self._consumer = KafkaConsumer(**met | joining)
        hooks.speed_up_member(self._consumer)
        self._listener = _Listener(self._consumer, listener)
        self.subscribe(identity.topics)
        self._least_poll_ms = hooks.least_poll_ms  # the library does not forget the first join

    def subscribe(self, topics: Collection[str]) -> None:
        self._consumer.subscribe(list(topics), listener=self._listener)
        self._least_poll_ms = self._hooks.subscribed_poll_ms

    def poll(self, seconds: float) -> None:
        self._hooks.request_join(self._consumer)
        least_ms, self._least_poll_ms = self._least_poll_ms, self._hooks.least_poll_ms
        try:
            self._consumer.poll(timeout_ms=max(round(seconds * 1000), least_ms))
        except KafkaError as error:
            raise self._why(error) from error

    def membership(self) -> Membership | None:
        known = self._consumer.group_metadata()
        if known.state != _JOINED or known.generation_id < 0 or not known.member_id:
            return None
        return Membership(known.member_id, known.generation_id)

    def commit(self, commits: Mapping[Partition, Committed]) -> None:
        before = self.membership()
        if before is None:
            raise UnavailableError("a rebalance is in progress")
        try:
            self._consumer.commit(_to_kafka(commits), timeout_ms=_COMMIT_MS)
        except KafkaError as error:
            if self._consumer.group_metadata().member_id != before.member_id:
                raise NotMemberError(f"the commit was refused: {error}") from error
            raise self._why(error) from error

    def _why(self, error: KafkaError) -> BrokerError:
        if isinstance(error, FencedInstanceIdError):
            self._on_replaced()
        return ours(error)

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        found: dict[Partition, Committed] = {}
        with translated():
            for partition in partitions:
                stored = self._consumer.committed(TopicPartition(*partition), metadata=True, timeout_ms=_READ_MS)
                if stored is not None:
                    found[partition] = Committed(stored.offset, text_of(stored.metadata))
        return found

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
        return bounds(self._consumer, partitions)

    def partitions(self, topic: str) -> Collection[int]:
        with translated():
            found: Collection[int] = self._consumer.partitions_for_topic(topic)
        return found

    def close(self, *, leave: bool) -> None:
        try:
            self._consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
            if leave and self._instance_id is not None:
                remove_static_member(self._config, self._group, self._instance_id)
        except Exception as error:  # noqa: BLE001 - kafka-python's own thread may have died; the session of this member expires
            log.warning("the group could not be left cleanly", group=self._group, error=repr(error))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python is untyped
    """Called on kafka-python's I/O thread, while the group thread waits inside poll() or close()."""

    def __init__(self, consumer: KafkaConsumer, listener: RebalanceListener) -> None:
        self._consumer = consumer
        self._listener = listener

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        for partition in assigned:
            self._consumer.seek(partition, 0)  # any position: without one, the client asks for one
            self._consumer.pause(partition)
        self._listener.assigned([Partition(*partition) for partition in assigned])

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        commits = self._listener.revoked([Partition(*partition) for partition in revoked])
        if commits:
            self._consumer.commit_async(_to_kafka(commits))

    def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        self._listener.lost([Partition(*partition) for partition in lost])


def _to_kafka(commits: Mapping[Partition, Committed]) -> dict[TopicPartition, OffsetAndMetadata]:
    return {TopicPartition(*partition): OffsetAndMetadata(*committed, -1) for partition, committed in commits.items()}


def bounds(consumer: KafkaConsumer, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
    """The first and the end offsets of partitions, according to the brokers.

    Raises:
        UnavailableError: no answer, or none about one of them.
    """
    asked = [TopicPartition(*partition) for partition in partitions]
    if not asked:
        return {}
    try:
        with translated():
            first = consumer.beginning_offsets(asked, timeout_ms=_READ_MS)
            end = consumer.end_offsets(asked, timeout_ms=_READ_MS)
    except KeyError as error:
        if error.args[0] not in asked:
            raise
        # kafka-python raises this when a topic was deleted, or is being recreated.
        raise UnavailableError(f"the brokers do not report the bounds of {Partition(*error.args[0])}") from error
    return {Partition(*partition): OffsetRange(first[partition], end[partition]) for partition in asked}
