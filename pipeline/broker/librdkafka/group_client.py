"""A member of a group, with librdkafka."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pipeline.broker.api import Committed, Membership, OffsetRange, Partition, RebalanceListener
from pipeline.broker.errors import BrokerError, NotMemberError, UnavailableError
from pipeline.broker.kafka.committed_offsets import CommittedOffsets
from pipeline.broker.kafka.config import client_config as plain_config
from pipeline.broker.kafka.leave_group import remove_static_member
from pipeline.broker.librdkafka.config import member_config
from pipeline.broker.librdkafka.errors import UNKNOWN_TOPIC, error_of, is_fatal, ours, translated
from pipeline.broker.librdkafka.fetch_client import bounds
from pipeline.broker.librdkafka.library_log import with_error_log
from pipeline.broker.librdkafka.session import close_within, open_session, require_brokers
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings

log = logger(__name__)

_COMMIT_S: Final = 2.0
_READ_S: Final = 5.0
_CLOSE_S: Final = 3.0
_RETURN_S: Final = 1.0
"""How long giving the partitions back before closing may take. It needs no broker."""
_SLICE_S: Final = 0.05
"""A poll continues until its time is over, even after it has called a listener. So it is called repeatedly with a short time."""
_RELEASE_S: Final = 0.5
"""How long a rebalance waits for records in progress in revoked partitions. A delivery takes milliseconds; a slow one is repeated
by another process.
"""
_RELEASE_LOOK_S: Final = 0.005
_JOIN_STATE: Final = re.compile(r'"join_state":\s*"([^"]*)"')
_JOINED: Final = "steady"


class LibrdkafkaGroupClient:
    """See `pipeline.broker.api.GroupClient`.

    It never fetches the partitions that the group assigns to it, because it does not pass the assignment to librdkafka. librdkafka
    reports the end of each join by calling the listener, and a join in progress in its statistics. There is no public way to read
    the generation, so the joins are counted here.
    """

    def __init__(
        self,
        settings: Settings,
        group: str,
        topics: Collection[str],
        listener: RebalanceListener,
        *,
        instance_id: str | None,
        on_replaced: Callable[[], None],
    ) -> None:
        """Connect. ``instance_id``: for static membership, the name that the member keeps across restarts. ``on_replaced`` is
        called if another living process has the same name.

        Raises:
            NoSessionError: no broker accepted the client.
        """
        self._settings = settings
        self._group = group
        self._listener = listener
        self._instance_id = instance_id
        self._on_replaced = on_replaced
        self._stored = CommittedOffsets(settings, group)
        self._joins = 0
        self._held: set[Partition] = set()
        """The partitions that librdkafka has reported as assigned, and not yet as revoked."""
        self._is_joining = True
        self._is_closing = False
        self._errors: list[KafkaError] = []
        self._unanswered = 0
        """The number of commits without an answer yet."""
        self._answers: list[tuple[KafkaError | None, list[TopicPartition]]] = []
        require_brokers(settings)
        self._consumer = Consumer(
            member_config(settings, group, instance_id)
            | {"error_cb": with_error_log(self._errors.append), "stats_cb": self._measured, "on_commit": self._answered}
        )
        try:
            open_session(self._consumer, settings, self._errors)
        except BaseException:
            close_within(self._consumer.close, _CLOSE_S, f"member of {group}")
            raise
        self._errors.clear()
        self.subscribe(topics)

    # --- callbacks: called inside poll() and close(), on the calling thread ---

    def _assigned(self, consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
        """A join has ended. Also called if it changed nothing."""
        consumer.incremental_assign([])
        self._joins, self._is_joining = self._joins + 1, False
        assigned = _ours(partitions)
        self._held.update(assigned)
        if assigned and not self._is_closing:
            self._listener.assigned(assigned)

    def _revoked(self, consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
        """Partitions are revoked when this returns. Another join follows, in which another member gets them."""
        self._is_joining = True
        gone = _ours(partitions)
        self._held.difference_update(gone)
        if gone and not self._is_closing:
            until = time.monotonic() + _RELEASE_S
            while not self._listener.releasing(gone) and time.monotonic() < until:
                time.sleep(_RELEASE_LOOK_S)
            if commits := self._listener.revoked(gone):
                self._send(commits)
        consumer.incremental_unassign([])

    def _lost(self, consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
        self._is_joining = True
        gone = _ours(partitions)
        self._held.difference_update(gone)
        if not self._is_closing:
            self._listener.lost(gone)
        consumer.incremental_unassign([])

    def _measured(self, statistics: str) -> None:
        found = _JOIN_STATE.search(statistics)
        if found is not None:
            self._is_joining = found[1] != _JOINED

    def _answered(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._unanswered -= 1
        self._answers.append((error, partitions))

    # --- the group thread ---

    def subscribe(self, topics: Collection[str]) -> None:
        try:
            self._consumer.subscribe(list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        except KafkaException as exception:
            raise self._why(error_of(exception)) from exception

    def poll(self, seconds: float) -> None:
        until, wait = time.monotonic() + seconds, 0.0
        while True:
            self._turn(wait)
            wait = min(until - time.monotonic(), _SLICE_S)
            if wait <= 0 or self.membership() is not None:
                return

    def _turn(self, seconds: float) -> None:
        """Let librdkafka call its callbacks."""
        try:
            message = self._consumer.poll(seconds)
        except KafkaException as exception:
            raise self._why(error_of(exception)) from exception
        while self._errors:
            error = self._errors.pop(0)
            if error.fatal():
                raise self._why(error)
        if message is not None:
            self._raise(message)

    def _raise(self, message: Message) -> None:
        error = message.error()
        if error is None:
            return
        why = self._why(error)
        if not isinstance(why, UnavailableError):  # librdkafka retries temporary errors by itself
            raise why

    def _why(self, error: KafkaError) -> BrokerError:
        if error.code() == KafkaError.FENCED_INSTANCE_ID or "group.instance.id" in error.str():
            self._on_replaced()
        if is_fatal(error):
            return NotMemberError(f"the client cannot continue: {error.name()}: {error.str()}")
        return ours(error)

    def membership(self) -> Membership | None:
        if not self._joins or self._is_joining:
            return None
        member_id = self._consumer.memberid()
        return Membership(member_id, self._joins) if member_id else None

    def commit(self, commits: Mapping[Partition, Committed]) -> None:
        until = time.monotonic() + _COMMIT_S
        self._await_answers(until)  # to earlier commits: a late answer must not be mistaken for the answer to this one
        before = self.membership()
        if before is None:
            raise UnavailableError("a rebalance is in progress")
        self._answers.clear()
        self._send(commits)
        self._await_answers(until)
        wanted = {(partition, committed.offset) for partition, committed in commits.items()}
        for error, partitions in self._answers:
            if {(Partition(each.topic, each.partition), each.offset) for each in partitions} != wanted:
                continue  # the answer to a commit of a rebalance in between
            failure = error or next((each.error for each in partitions if each.error is not None), None)
            if failure is not None:
                raise self._why_not_committed(failure, before)
            if self.membership() != before and self._consumer.memberid() == before.member_id:
                # It may have been sent before or after the rebalance. The member was not removed: librdkafka would have reported
                # that.
                raise UnavailableError("a rebalance happened during a commit")
            return
        raise UnavailableError("a commit was not answered")

    def _why_not_committed(self, error: KafkaError, before: Membership) -> BrokerError:
        if error.code() == KafkaError.ILLEGAL_GENERATION and self._consumer.memberid() == before.member_id:
            # The commit was queued behind a join in the connection. The group knows the member, which has taken part in the join.
            return UnavailableError("a rebalance ended during a commit")
        return self._why(error)

    def _send(self, commits: Mapping[Partition, Committed]) -> None:
        offsets = [_to_librdkafka(partition, committed) for partition, committed in commits.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as exception:
            raise self._why(error_of(exception)) from exception
        self._unanswered += 1

    def _await_answers(self, until: float) -> None:
        wait = 0.002
        while self._unanswered:
            if time.monotonic() > until:
                raise UnavailableError(f"the coordinator did not answer a commit within {_COMMIT_S:g} s")
            self._turn(wait)
            wait = min(2 * wait, _SLICE_S)

    def committed(self, partitions: Collection[Partition]) -> dict[Partition, Committed]:
        # Not with librdkafka: confluent-kafka 2.16.1 reads beyond the end of another client's metadata text.
        return self._stored.read(partitions)

    def bounds(self, partitions: Collection[Partition]) -> dict[Partition, OffsetRange]:
        return bounds(self._consumer, partitions)

    def partitions(self, topic: str) -> Collection[int]:
        with translated():
            found = self._consumer.list_topics(topic, timeout=_READ_S).topics[topic]
        if found.error is not None and found.error.code() != UNKNOWN_TOPIC:
            raise ours(found.error)
        return tuple(found.partitions)

    def close(self, *, leave: bool) -> None:
        self._is_closing = True
        self._stored.close()
        self._give_back(leave=leave)
        close_within(self._consumer.close, _CLOSE_S, f"member of {self._group}")
        if leave and self._instance_id is not None:
            try:
                remove_static_member(plain_config(self._settings), self._group, self._instance_id)
            except Exception as error:  # noqa: BLE001 - the session of this member expires
                log.warning("the group could not be left cleanly", group=self._group, error=repr(error))

    def _give_back(self, *, leave: bool) -> None:
        """Give the partitions back, so that close() calls no listener.

        If a rebalance has begun that was not polled yet, close() reports it when librdkafka answers nothing any more (librdkafka
        2.16, issue 4884). A listener must answer it, and would wait for ever with Python's lock held: the whole process would stop.
        A named member that stays in its group cannot give them back, because that would remove it; it answers what has begun.
        """
        until = time.monotonic() + _RETURN_S
        stays = self._instance_id is not None and not leave
        try:
            if not stays:
                self._consumer.unsubscribe()
            self._turn(0)
            while self._held and not stays and time.monotonic() < until:
                self._turn(_SLICE_S)
        except (BrokerError, KafkaException, RuntimeError) as error:  # RuntimeError: it is closed already
            log.debug("the partitions could not be given back before closing", group=self._group, error=repr(error))


def _ours(partitions: Iterable[TopicPartition]) -> list[Partition]:
    return [Partition(each.topic, each.partition) for each in partitions]


def _to_librdkafka(partition: Partition, committed: Committed) -> TopicPartition:
    # An empty text is omitted: confluent-kafka would write a zero byte after it.
    text = (committed.metadata,) if committed.metadata else ()
    return TopicPartition(*partition, committed.offset, *text)
