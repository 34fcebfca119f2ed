"""Membership: a thread that keeps this process in its group, learns which partitions it holds, and commits.

It fetches nothing. So a long join (a dead neighbour must be removed first) delays no deliveries: the fetch thread keeps reading
the current partitions (`pipeline.broker.consumer`).

The thread repeats: take part in the group; check whether the group has removed this process; learn where to begin with new
partitions; commit what is finished. A process that has lost membership begins nothing, commits nothing, and forgets everything:
epochs, positions, and the client with its state. A new client joins as a new member.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from pipeline.broker.added_subscription import AddedSubscription
from pipeline.broker.api import Broker, Committed, GroupClient, Membership, Partition, Receipt, Record
from pipeline.broker.assignment import Assignment, Beginning, committed_of
from pipeline.broker.errors import BrokerError, MetadataError, NotMemberError, UnavailableError
from pipeline.broker.failure_backoff import FailureBackoff
from pipeline.broker.lease import Lease
from pipeline.broker.start_offset import MissingOffsets, starting_point
from pipeline.ops import metrics
from pipeline.ops.daemon_threads import start_thread
from pipeline.ops.logs import logger

log = logger(__name__)

_JOIN_POLL_S: Final = 1.0
"""A join is awaited in one poll: kafka-python drops one that ends between two polls."""
_SUBSCRIBED_S: Final = 10.0
"""For this time after a subscription to more topics, a member may have to join again: by then every process knows of them, and
has their metadata.
"""
_TURN_S: Final = 0.5
"""How often a member checks for a rebalance, and commits small numbers of records (less than `_COMMIT_AT`)."""
_EMPTY_S: Final = 15.0
"""How long a member without partitions waits for some before it leaves the group and joins again; twice as long each time after
that.
"""
_LONGEST_EMPTY_S: Final = 3_600.0
_COMMIT_AT: Final = 50
"""So many finished records are committed immediately: uncommitted ones are delivered again after a crash."""
_COMMITS_APART_S: Final = 0.02
"""The least time between two commits. At 3,000 records a second, 60 are committed at a time."""


class Member:
    """One consumer's membership in its group. It is its client's rebalance listener."""

    def __init__(
        self,
        broker: Broker,
        group: str,
        topics: Sequence[str],
        assignment: Assignment,
        *,
        on_gone: Callable[[frozenset[Partition]], None],
        on_missing: Callable[[MissingOffsets], None],
    ) -> None:
        """``on_gone`` is called with partitions that are no longer ours; it must not block. ``on_missing`` is called with records
        that were removed unread, before a commit passes them; it may block for a moment. Both are called on any thread.
        """
        self._broker = broker
        self._group = group
        self._topics = tuple(topics)
        self._added = AddedSubscription()
        self._assignment = assignment
        self._on_gone = on_gone
        self._on_missing = on_missing
        self.lease = Lease(broker.session_seconds, broker.clock)
        self._completions: deque[tuple[Partition, int, int, int | None]] = deque()
        """Of whole records, or (with a number) of a part."""
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._client: GroupClient | None = None
        self._identity: Membership | None = None
        """Our identity; None during a join."""
        self._member_id: str | None = None
        """Our id in the group; None before the first join."""
        self._joining_since: float | None = None
        self._empty_since: float | None = None
        """Since when the group has assigned no partition to this member; None if it has some, or is not in the group."""
        self._empty_seconds = _EMPTY_S
        self._left_empty_at = -math.inf
        self._subscribed_until = -math.inf
        self._lost: str | None = None
        self._sent: dict[Partition, Committed] = {}
        """Commits without an answer yet. The group may have them."""
        self._trouble = FailureBackoff(log)
        self._losses = FailureBackoff(log)
        self._metadata_trouble = FailureBackoff(log)

    # --- any thread ---

    def finish(self, record: Record | Receipt) -> None:
        """A record is done: its offset may be committed."""
        self._complete((record.partition, record.epoch, record.offset, None))

    def finish_part(self, record: Record | Receipt, part: int) -> None:
        """A part of a record is done: it may be committed."""
        self._complete((record.partition, record.epoch, record.offset, part))

    def _complete(self, completion: tuple[Partition, int, int, int | None]) -> None:
        self._completions.append(completion)
        if len(self._completions) >= _COMMIT_AT and not self._wake.is_set():
            self._wake.set()

    def read_also(self, topics: Collection[str]) -> None:
        """Also read these topics, which exist and are readable. Current partitions are kept."""
        self._added.add(topics)
        self._wake.set()

    def problem(self) -> str | None:
        """Why this process is not a working member of the group (for health checks)."""
        if self._member_id is None:
            if self.lease.clock() - self._left_empty_at < self.lease.session_seconds:
                return None  # it had nothing to do, and is about to join again
            return f"this process is not a member of group {self._group} yet, or was put out of it"
        if self._assignment.partitions and not self.lease.is_valid():
            return f"group {self._group} has not confirmed this member for a while; nothing is begun until it does"
        return None

    def start(self) -> asyncio.Future[None]:
        """Start the thread. The future is done when it has ended, and holds the error that ended it."""

        def run() -> None:
            try:
                self._run()
            except Exception:
                log.exception("membership has ended", group=self._group)
                raise

        return start_thread(run, f"group {self._group}")

    def stop(self) -> None:
        """Commit what is finished, and leave the group."""
        self._stop.set()
        self._wake.set()

    # --- the client's thread ---

    def assigned(self, partitions: Collection[Partition]) -> None:
        """Partitions were assigned."""
        self._assignment.assign(partitions)
        metrics.REBALANCES.labels(self._group, "assigned").inc()

    def releasing(self, partitions: Collection[Partition]) -> bool:
        """Partitions are about to be revoked. In doubt, wait for nothing: they may already belong to another member."""
        self._drain()
        return self._assignment.release(partitions) or not self.lease.is_valid()

    def revoked(self, partitions: Collection[Partition]) -> Mapping[Partition, Committed]:
        """Partitions are revoked: their completions are ignored from now on."""
        self._drain()
        commits = self._assignment.revoke(partitions)
        metrics.REBALANCES.labels(self._group, "revoked").inc()
        self._on_gone(frozenset(partitions))
        return {partition: committed_of(commit) for partition, commit in commits.items()} if self.lease.is_valid() else {}

    def lost(self, partitions: Collection[Partition]) -> None:
        """Partitions already belong to another member."""
        self.lease.end()
        self._lost = "the client was put out of the group"
        self._assignment.revoke(partitions)
        self._on_gone(frozenset(partitions))

    # --- the group thread ---

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._stop.wait(self.step())
                if self._identity is not None:
                    self._wake.wait(_TURN_S)
                    self._wake.clear()
        finally:
            self._end()

    def step(self) -> float:
        """One turn. Returns the least number of seconds until the next one."""
        try:
            if self._client is None:
                wanted = (*self._topics, *self._added.begin(self.lease.clock()))
                self._client = self._broker.group_client(self._group, wanted, self)
            self._turn(self._client)
        except UnavailableError as error:
            return self._trouble.note("the group does not answer", group=self._group, error=str(error))
        except NotMemberError as error:
            metrics.REBALANCES.labels(self._group, "lost").inc()
            self._part(leave=False)
            return self._losses.note("membership is lost; joining again", group=self._group, reason=str(error))
        self._trouble.over("the group answers again", group=self._group)
        if self._identity is not None:
            self._losses.over("this process is a member again", group=self._group)
        return _COMMITS_APART_S if self._identity is not None else 0.0

    def _end(self) -> None:
        """Commit what is finished, and leave."""
        is_member = False
        if self._client is not None and self._identity is not None:
            try:
                self._turn(self._client)
                is_member = self.lease.is_valid()
            except BrokerError as error:
                log.warning("the last commit failed; some records are delivered again", group=self._group, error=str(error))
        self._part(leave=is_member)

    def _part(self, *, leave: bool) -> None:
        """Drop the client, and forget everything that it reported."""
        client, self._client = self._client, None
        self.lease.end()
        held = self._assignment.partitions
        self._assignment.revoke(held)
        self._identity = self._member_id = self._joining_since = self._lost = None
        self._sent.clear()
        if held:
            self._on_gone(held)
        if client is not None:
            client.close(leave=leave)

    def _turn(self, client: GroupClient) -> None:
        began = self.lease.clock()
        is_quick = (self._identity is not None and began >= self._subscribed_until) or self._stop.is_set()
        client.poll(0.0 if is_quick else _JOIN_POLL_S)
        self._look(client.membership(), began)
        if self._identity is None:
            return
        self._drain()
        if not self.lease.is_valid():
            self._prove(client)
        self._begin(client)
        self._commit(client)
        self._follow_added_topics(client, self._identity.generation)
        self._leave_when_empty()

    def _follow_added_topics(self, client: GroupClient, generation: int) -> None:
        """Subscribe to added topics, and make sure that the group assigns them to somebody."""
        now = self.lease.clock()
        if unread := self._added.to_look_for(self._assignment.partitions, now):
            begun = client.committed([Partition(topic, 0) for topic in unread])
            if self._added.see(begun, generation, now):
                log.info("the group has given topics to nobody; this process joins again", group=self._group, topics=unread)
        if (added := self._added.to_subscribe(generation, now)) is not None:
            client.subscribe((*self._topics, *added))
            self._subscribed_until = now + _SUBSCRIBED_S

    def _leave_when_empty(self) -> None:
        """Leave a group that has assigned no partition to this member, and join again.

        There may be more members than partitions; then nothing changes. But if a broker that just came back told the group's
        leader of no topic, the leader assigns nothing to anybody. A static member that returns gets its former assignment, which
        is nothing. Without a new member, the group would stay like that for ever.
        """
        if self._assignment.partitions:
            self._empty_since, self._empty_seconds = None, _EMPTY_S
            return
        now = self.lease.clock()
        if self._empty_since is None:
            self._empty_since = now
        if now - self._empty_since < self._empty_seconds or self._stop.is_set():
            return
        log.info("the group has given this process no partition; it leaves and joins again", group=self._group)
        self._empty_since, self._empty_seconds = None, min(self._empty_seconds * 2, _LONGEST_EMPTY_S)
        self._left_empty_at = now
        self._part(leave=True)

    def _look(self, identity: Membership | None, began: float) -> None:
        """Compare our identity with the former one. ``began``: a moment before the group was asked."""
        if self._lost is not None:
            raise NotMemberError(self._lost)
        former, self._identity = self._identity, identity
        if identity is None:
            self._watch_join(began)
            return
        self._joining_since = None
        if self._member_id is not None and identity.member_id != self._member_id:
            message = f"the group had given up {self._member_id}; it knows this process as {identity.member_id} now"
            raise NotMemberError(message)
        self._member_id = identity.member_id
        if former is None or former.generation != identity.generation:
            self.lease.prove(began)  # a join has ended in between

    def _watch_join(self, now: float) -> None:
        """During a join the group waits for its members: while we are awake, nobody else gets our partitions."""
        if self._member_id is None:
            return
        if self._joining_since is None:
            self._joining_since = now
        if now - self._joining_since > self.lease.longest_join_seconds:
            message = f"a join has not ended within {self.lease.longest_join_seconds:.0f} s"
            raise NotMemberError(message)
        if self.lease.is_valid():
            self.lease.prove(now)

    def _prove(self, client: GroupClient) -> None:
        """Check whether the group still counts us as a member, by a commit that changes nothing. Another process may have
        continued in our place.

        A commit that was not acknowledged may be in the coordinator's log nevertheless: the coordinator does not report it while
        too few replicas have it. Repeating the previous commit would move the group back, so the unacknowledged one is sent
        again.
        """
        sent = self.lease.clock()
        known_commits = self._assignment.last_committed()
        if self._assignment.partitions and not known_commits:
            raise NotMemberError("membership is in doubt, and nothing was read yet that could prove it")
        for partition, known in list(known_commits.items())[:1]:
            found = client.committed([partition]).get(partition)
            if found is None or found.offset not in (known.offset, self._sent.get(partition, known).offset):
                message = f"somebody else has committed {partition} meanwhile"
                raise NotMemberError(message)
            self._send(client, {partition: self._sent.get(partition, found)})
        if client.membership() != self._identity:
            raise NotMemberError("the group has given this process up while it was asked")
        self.lease.prove(sent)
        if known_commits:  # a member without partitions has nothing to commit, and so no other proof: not worth a log line
            log.info("the group still counts this process in", group=self._group)

    def _begin(self, client: GroupClient) -> None:
        """Learn where to begin with new partitions."""
        unready = self._assignment.unready()
        if not unready:
            return
        committed, bounds = client.committed(unready), client.bounds(unready)
        beginnings = []
        for partition, epoch in unready.items():
            start = starting_point(self._group, partition, committed.get(partition), bounds[partition])
            if start.missing is not None:
                self._on_missing(start.missing)
            if start.last != committed.get(partition):
                client.commit({partition: start.last})  # records that are removed from now on count as missing
            if start.is_unreadable:
                log.warning(
                    "what was committed beside an offset cannot be read; what was finished beyond it is done again",
                    group=self._group,
                    partition=str(partition),
                    offset=start.last.offset,
                )
            beginnings.append(Beginning(partition, epoch, start.last, start.finished, start.progress))
        self._assignment.begin(*beginnings)

    def _commit(self, client: GroupClient) -> None:
        commits = self._assignment.committable()
        texts = {partition: committed_of(commit) for partition, commit in commits.items()}
        if not texts and self.lease.wants_proof():
            texts = dict(list(self._assignment.last_committed().items())[:1])
        if not texts or not self.lease.is_valid():
            return
        sent = self.lease.clock()
        self._sent.update(texts)
        try:
            self._send(client, texts)
        except (NotMemberError, UnavailableError):
            metrics.COMMITS.labels(self._group, "failed").inc()
            raise
        if client.membership() != self._identity:
            raise NotMemberError("the group has given this process up during a commit")
        metrics.COMMITS.labels(self._group, "ok").inc()
        self._assignment.committed(commits)
        self._sent.clear()
        self.lease.prove(sent)

    def _send(self, client: GroupClient, texts: Mapping[Partition, Committed]) -> None:
        """Commit; without metadata, if the brokers do not accept that much."""
        try:
            client.commit(texts)
        except MetadataError as error:
            self._metadata_trouble.note("more is done again after a crash than need be", group=self._group, error=str(error))
            client.commit({partition: Committed(committed.offset) for partition, committed in texts.items()})

    def _drain(self) -> None:
        """Note completions. A rebalance does the same on the client's thread."""
        while self._completions:
            try:
                partition, epoch, offset, part = self._completions.popleft()
            except IndexError:
                return
            if part is not None:
                self._assignment.finish_part(partition, epoch, offset, part)
            elif not self._assignment.finish(partition, epoch, offset):
                metrics.FENCED.labels(self._group).inc()
