"""Membership: a thread that keeps this process in its group, learns which partitions it holds, and commits.

It does not fetch. So a long join (a dead member must be removed first) delays no deliveries: the fetch thread keeps reading the
current partitions (`pipeline.broker.consumer`).

The thread loops: take part in the group; check whether the group has removed this process; find the starting offsets of new
partitions; commit finished records. A process that has lost its membership starts nothing, commits nothing, and discards all
state: epochs, positions and the client. Then a new client joins as a new member.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from pipeline.broker.api import Broker, Committed, GroupClient, Membership, Partition, Receipt, Record
from pipeline.broker.assignment import Assignment, StartPosition, committed_of
from pipeline.broker.assignment_check import AssignmentCheck, named
from pipeline.broker.errors import BrokerError, MetadataError, NotMemberError, UnavailableError
from pipeline.broker.failure_backoff import FailureBackoff
from pipeline.broker.lease import Lease
from pipeline.broker.start_offset import MissingOffsets, starting_point
from pipeline.ops import metrics
from pipeline.ops.daemon_threads import start_thread
from pipeline.ops.logs import logger

log = logger(__name__)

_JOIN_POLL_S: Final = 1.0
"""One poll waits for the whole join: kafka-python drops a join that ends between two polls."""
_SUBSCRIBED_S: Final = 10.0
"""For this long after subscribing to more topics, a member may have to rejoin. After that, every process knows the topics and has
their metadata.
"""
_TURN_S: Final = 0.5
"""How often a member checks for a rebalance, and commits small numbers of records (fewer than `_COMMIT_AT`)."""
_COMMIT_AT: Final = 50
"""This many finished records are committed immediately: uncommitted ones are processed again after a crash."""
_COMMITS_APART_S: Final = 0.02
"""The minimum time between two commits: at 3,000 records per second, 60 are committed at a time."""

_LAST_COMMIT_S: Final = 5.0
"""How long the last commit may wait for a rebalance, at most."""
_LAST_COMMIT_AGAIN_S: Final = 0.05


class Member:
    """One consumer's membership in its group. Also the rebalance listener of its client."""

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
        that Kafka removed unread, before a commit passes them; it may block briefly. Both may be called on any thread.
        """
        self._broker = broker
        self._group = group
        self._topics = tuple(topics)
        """What to read. Topics are never removed: their remaining records must be read."""
        self._subscribed: tuple[str, ...] = ()
        """What the client subscribes to."""
        self._assignment = assignment
        self._on_gone = on_gone
        self._on_missing = on_missing
        self.lease = Lease(broker.session_seconds, broker.clock)
        self._completions: deque[tuple[Partition, int, int, int | None]] = deque()
        """Partition, epoch, offset, and the number of the finished part (None: the whole record)."""
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._client: GroupClient | None = None
        self._identity: Membership | None = None
        """Our identity; None during a join."""
        self._member_id: str | None = None
        """Our id in the group; None before the first join."""
        self._joining_since: float | None = None
        self._check = AssignmentCheck()
        self._left_at = -math.inf
        """When this member last left the group to rejoin."""
        self._subscribed_until = -math.inf
        self._lost: str | None = None
        self._sent: dict[Partition, Committed] = {}
        """Commits that were not acknowledged yet. The group may have stored them."""
        self._trouble = FailureBackoff(log)
        self._losses = FailureBackoff(log)
        self._metadata_trouble = FailureBackoff(log)
        self._blindness = FailureBackoff(log)
        self._rejoins = FailureBackoff(log)

    # --- any thread ---

    def finish(self, record: Record | Receipt) -> None:
        """A record is finished: its offset may be committed."""
        self._complete((record.partition, record.epoch, record.offset, None))

    def finish_part(self, record: Record | Receipt, part: int) -> None:
        """A part of a record is finished: it may be committed."""
        self._complete((record.partition, record.epoch, record.offset, part))

    def _complete(self, completion: tuple[Partition, int, int, int | None]) -> None:
        self._completions.append(completion)
        if len(self._completions) >= _COMMIT_AT and not self._wake.is_set():
            self._wake.set()

    def add_topics(self, topics: Collection[str]) -> None:
        """Also read these topics, which exist and are readable. Current partitions are kept."""
        self._topics = tuple(dict.fromkeys((*self._topics, *topics)))
        self._wake.set()

    def problem(self) -> str | None:
        """Why this process is not a working member of the group (for health checks)."""
        if self._member_id is None:
            if self.lease.clock() - self._left_at < self.lease.session_seconds:
                return None  # it is about to rejoin
            return f"this process is not a member of group {self._group} yet, or was removed from it"
        if self._assignment.partitions and not self.lease.is_valid():
            return f"group {self._group} has not confirmed this member for a while; nothing is started until it does"
        if unassigned := self._check.lasting:
            return f"group {self._group} assigns {named(unassigned)} to no process, so nobody reads them"
        return None

    def start(self) -> asyncio.Future[None]:
        """Start the thread. The future is done when the thread has ended, and holds the error that ended it."""

        def run() -> None:
            try:
                self._run()
            except Exception:
                log.exception("the membership thread failed", group=self._group)
                raise

        return start_thread(run, f"group {self._group}")

    def stop(self) -> None:
        """Commit finished records, and leave the group."""
        self._stop.set()
        self._wake.set()

    # --- the client's thread ---

    def assigned(self, partitions: Collection[Partition]) -> None:
        """Partitions were assigned."""
        self._assignment.assign(partitions)
        metrics.REBALANCES.labels(self._group, "assigned").inc()

    def releasing(self, partitions: Collection[Partition]) -> bool:
        """Partitions are about to be revoked. While membership is in doubt, do not wait: they may belong to another member."""
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
        if self._client is None:
            return  # a discarded client reports this again while it is being closed; it says nothing about the next one
        self.lease.end()
        self._lost = "the client was removed from the group"
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
        """Run one iteration. Returns the minimum number of seconds until the next one."""
        try:
            if self._client is None:
                self._subscribed = self._topics
                self._client = self._broker.group_client(self._group, self._subscribed, self)
            self._turn(self._client)
        except UnavailableError as error:
            return self._trouble.note("the group does not answer", group=self._group, error=str(error))
        except NotMemberError as error:
            metrics.REBALANCES.labels(self._group, "lost").inc()
            self._part(leave=False)
            return self._losses.note("membership is lost; rejoining", group=self._group, reason=str(error))
        self._trouble.over("the group answers again", group=self._group)
        if self._identity is not None:
            self._losses.over("this process is a member again", group=self._group)
        return _COMMITS_APART_S if self._identity is not None else 0.0

    def _end(self) -> None:
        """Commit finished records, and leave."""
        is_member = False
        if self._client is not None and self._member_id is not None:
            try:
                self._commit_last(self._client)
                is_member = self.lease.is_valid()
            except BrokerError as error:
                log.warning("the last commit failed; some records will be processed again", group=self._group, error=str(error))
        self._part(leave=is_member)

    def _commit_last(self, client: GroupClient) -> None:
        """Commit finished records. During a rebalance nothing can be committed, so wait for its end."""
        until = time.monotonic() + _LAST_COMMIT_S
        while True:
            failure: UnavailableError | None = None
            try:
                self._turn(client)
            except UnavailableError as error:
                failure = error
            self._drain()
            is_over = failure is None and self._identity is not None
            if is_over or not self._assignment.committable() or time.monotonic() > until:
                break
            time.sleep(_LAST_COMMIT_AGAIN_S)
        if failure is not None:
            raise failure

    def _part(self, *, leave: bool) -> None:
        """Discard the client and everything that it reported."""
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
        is_quick = self._identity is not None and (began >= self._subscribed_until or self._stop.is_set())
        client.poll(0.0 if is_quick else _JOIN_POLL_S)
        self._check_identity(client.membership(), began)
        if self._identity is None:
            return
        self._drain()
        if not self.lease.is_valid():
            self._prove(client)
        unready: UnavailableError | None = None
        try:
            if not self._stop.is_set():
                self._begin(client)
        except UnavailableError as error:  # a new partition has no leader, for example: the others are committed all the same
            unready = error
        self._commit(client)
        if unready is not None:
            raise unready
        self._follow_added_topics(client)
        self._rejoin_if_unassigned(client, self._identity)

    def _follow_added_topics(self, client: GroupClient) -> None:
        topics = self._topics
        if topics != self._subscribed:
            client.subscribe(topics)
            self._subscribed, self._subscribed_until = topics, self.lease.clock() + _SUBSCRIBED_S

    def _rejoin_if_unassigned(self, client: GroupClient, identity: Membership) -> None:
        """Leave and rejoin if partitions of our topics are assigned to no member of the group."""
        now = self.lease.clock()
        if self._stop.is_set() or not self._check.is_due(identity, now):
            return
        try:
            assigned = self._broker.assigned_partitions(self._group)
            every = {Partition(topic, number) for topic in self._subscribed for number in client.partitions(topic)}
        except BrokerError as error:
            self._blindness.note("the assignments of the group cannot be read", group=self._group, error=str(error))
            return
        self._blindness.over("the assignments of the group can be read again", group=self._group)
        if assigned is None or identity.member_id not in assigned:
            return
        unassigned = every.difference(*assigned.values())
        if not unassigned:
            self._rejoins.over("every partition has a reader again", group=self._group)
        if not self._check.must_rejoin(unassigned, sorted(assigned).index(identity.member_id), now):
            return
        self._rejoins.note(
            "the group has assigned partitions to no member; leaving and rejoining",
            group=self._group,
            partitions=named(unassigned),
        )
        self._left_at = now
        self._part(leave=True)

    def _check_identity(self, identity: Membership | None, began: float) -> None:
        """Compare our identity with the previous one. ``began``: when the poll of the group started."""
        if self._lost is not None:
            raise NotMemberError(self._lost)
        former, self._identity = self._identity, identity
        if identity is None:
            self._watch_join(began)
            return
        self._joining_since = None
        if self._member_id is not None and identity.member_id != self._member_id:
            message = f"the group removed member {self._member_id}; this process is now member {identity.member_id}"
            raise NotMemberError(message)
        self._member_id = identity.member_id
        if former is None or former.generation != identity.generation:
            self.lease.prove(began)  # a join has ended in the meantime

    def _watch_join(self, now: float) -> None:
        """During a join, the group waits for its members: while we are running, nobody else gets our partitions."""
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
        """Check with a commit that changes nothing whether we are still a member. Another process may have taken our place.

        A commit that was not acknowledged may still be in the coordinator's log: the coordinator does not report it while too few
        replicas have it. Repeating the commit before it would move the group back, so the unacknowledged one is sent again.
        """
        sent = self.lease.clock()
        known_commits = self._assignment.last_committed()
        if self._assignment.partitions and not known_commits:
            raise NotMemberError("membership is in doubt, and there is no commit yet that could prove it")
        for partition, known in list(known_commits.items())[:1]:
            found = client.committed([partition]).get(partition)
            if found is None or found.offset not in (known.offset, self._sent.get(partition, known).offset):
                message = f"another process has committed {partition} in the meantime"
                raise NotMemberError(message)
            self._send(client, {partition: self._sent.get(partition, found)})
        if client.membership() != self._identity:
            raise NotMemberError("the group removed this process while membership was checked")
        self.lease.prove(sent)
        if known_commits:  # a member without partitions has nothing to commit, and so no other proof: not worth a log line
            log.info("the group has confirmed the membership of this process", group=self._group)

    def _begin(self, client: GroupClient) -> None:
        """Find the starting offsets of new partitions."""
        unready = self._assignment.unready()
        if not unready:
            return
        committed, bounds = client.committed(unready), client.bounds(unready)
        if unknown := sorted(str(each) for each in unready if each not in committed and bounds[each].first > 0):
            log.warning(
                "the group has no commits for partitions from which records were removed; it starts at the first remaining ones. If "
                "the group is not new, Kafka has forgotten its commits (the brokers' offsets.retention.minutes)",
                group=self._group,
                partitions=unknown,
            )
        starts = []
        for partition, epoch in unready.items():
            start = starting_point(self._group, partition, committed.get(partition), bounds[partition])
            if start.missing is not None:
                self._on_missing(start.missing)
            if start.last != committed.get(partition):
                client.commit({partition: start.last})  # records that are removed from now on count as missing
            if start.is_unreadable:
                log.warning(
                    "the metadata of a commit cannot be read; finished records above its offset are processed again",
                    group=self._group,
                    partition=str(partition),
                    offset=start.last.offset,
                )
            starts.append(StartPosition(partition, epoch, start.last, start.finished, start.progress))
        self._assignment.begin(*starts)

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
            raise NotMemberError("the group removed this process during a commit")
        metrics.COMMITS.labels(self._group, "ok").inc()
        self._assignment.committed(commits)
        self._sent.clear()
        self.lease.prove(sent)

    def _send(self, client: GroupClient, texts: Mapping[Partition, Committed]) -> None:
        """Commit. If the brokers do not accept that much metadata, commit without it."""
        try:
            client.commit(texts)
        except MetadataError as error:
            self._metadata_trouble.note(
                "commits have too much metadata; a crash repeats more", group=self._group, error=str(error)
            )
            client.commit({partition: Committed(committed.offset) for partition, committed in texts.items()})

    def _drain(self) -> None:
        """Process completions. A rebalance does the same on the client's thread."""
        while self._completions:
            try:
                partition, epoch, offset, part = self._completions.popleft()
            except IndexError:
                return
            if part is not None:
                self._assignment.finish_part(partition, epoch, offset, part)
            elif not self._assignment.finish(partition, epoch, offset):
                metrics.FENCED.labels(self._group).inc()
