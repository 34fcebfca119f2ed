"""The coordinator: who is a member of a group, who holds which partitions, and what was committed.

Cooperative rebalances, as in Kafka's consumer protocol: a join starts when a member comes or goes. It ends when every living
member has rejoined. A member that holds too many partitions must first give some up, and there is a second round. A member that is
silent for a session is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from pipeline.broker.api import Committed, Partition
from pipeline.broker.errors import MetadataError, NotMemberError, UnavailableError


@dataclass(slots=True)
class GroupMember:
    """A member as the coordinator knows it."""

    member_id: str
    topics: tuple[str, ...]
    session_seconds: float
    is_alive: Callable[[], bool]
    """Whether it sends heartbeats at this moment."""
    instance_id: str | None = None
    last_heartbeat_at: float = 0.0
    has_joined: bool = False
    owned: frozenset[Partition] = frozenset()
    """The partitions that it reported at its last join."""
    assigned: frozenset[Partition] = frozenset()
    counted: tuple[str, ...] = ()
    """The topics that the last assignment considered. A static member that came back may have others, which count only in the next
    join.
    """


@dataclass(slots=True)
class ConsumerGroup:
    """A consumer group."""

    generation: int = 0
    is_joining: bool = False
    leader: str = ""
    """The member that assigns partitions, and notices added ones."""
    has_attentive_leader: bool = True
    """A static member that came back in the place of the leader does not know that it is the leader, until the next join (KIP-814)."""
    considered: frozenset[Partition] = frozenset()
    """The partitions that the last assignment considered."""
    members: dict[str, GroupMember] = field(default_factory=dict)
    committed: dict[Partition, Committed] = field(default_factory=dict)
    history: list[tuple[Partition, int]] = field(default_factory=list)
    """Every accepted commit, in order."""


class Coordinator:
    """All groups of a cluster. Its caller holds the cluster's lock."""

    def __init__(self, clock: Callable[[], float], partitions_of: Callable[[str], list[Partition]]) -> None:
        self._clock = clock
        self._partitions_of = partitions_of
        self._ids = count(1)
        self.groups: dict[str, ConsumerGroup] = {}
        self.most_metadata = 4096
        """``offset.metadata.max.bytes``."""

    def group(self, name: str) -> ConsumerGroup:
        """A group. Created at the first access."""
        return self.groups.setdefault(name, ConsumerGroup())

    def join(self, name: str, member: GroupMember, owned: Collection[Partition]) -> None:
        """Join or rejoin: the group's join continues."""
        group = self.group(name)
        self._remove_expired(group)
        if member.member_id not in group.members and self._admit(group, member) and not group.is_joining:
            return
        member.last_heartbeat_at = self._clock()
        member.has_joined, member.owned = True, frozenset(owned)
        if not group.is_joining:
            self._begin_join(group, but=member)
        self._end_join(group)

    def heartbeat(self, name: str, member: GroupMember) -> bool:
        """A sign of life. Returns whether the member must rejoin.

        Raises:
            NotMemberError: the group has removed it.
        """
        group = self.group(name)
        self._remove_expired(group)
        self._known(group, member)
        member.last_heartbeat_at = self._clock()
        if not group.is_joining and group.has_attentive_leader and self._wanted(group) != group.considered:
            self._begin_join(group)  # topics have grown
        self._end_join(group)  # it may have waited for a member that was removed
        return group.is_joining and not member.has_joined

    def commit(self, name: str, member: GroupMember, generation: int, commits: Mapping[Partition, Committed]) -> None:
        """Accept commits of a member in the group's generation.

        Raises:
            NotMemberError: it is not a member, or of another generation.
            UnavailableError: a join is in progress.
            MetadataError: there is too much metadata.
        """
        group = self.group(name)
        self._remove_expired(group)
        self._known(group, member)
        if any(len(each.metadata.encode()) > self.most_metadata for each in commits.values()):
            raise MetadataError("too much metadata")
        if group.is_joining:
            raise UnavailableError("a rebalance is in progress")
        if generation != group.generation:
            raise NotMemberError("another generation")
        member.last_heartbeat_at = self._clock()
        group.committed |= commits
        group.history += [(partition, committed.offset) for partition, committed in commits.items()]

    def subscribe(self, name: str, member: GroupMember, topics: Sequence[str], owned: Collection[Partition]) -> None:
        """Read other topics: the member rejoins.

        Raises:
            NotMemberError: the group has removed it.
        """
        group = self.group(name)
        self._remove_expired(group)
        self._known(group, member)
        if member.topics != tuple(topics):
            member.topics = tuple(topics)
            self.join(name, member, owned)

    def leave(self, name: str, member: GroupMember) -> None:
        """Leave, without being waited for."""
        group = self.group(name)
        if group.members.pop(member.member_id, None) is not None:
            self._begin_join(group)
            self._end_join(group)

    def forget_topic(self, topic: str) -> None:
        """A topic was deleted, and its commits with it."""
        for group in self.groups.values():
            group.committed = {partition: held for partition, held in group.committed.items() if partition.topic != topic}

    def _known(self, group: ConsumerGroup, member: GroupMember) -> None:
        if group.members.get(member.member_id) is not member:
            raise NotMemberError(f"the group does not know {member.member_id or 'this member'}")

    def _admit(self, group: ConsumerGroup, member: GroupMember) -> bool:
        """Admit a member. Returns whether it replaces another one, so that nobody needs to rejoin."""
        former = next(
            (each for each in group.members.values() if each.instance_id and each.instance_id == member.instance_id), None
        )
        member.member_id, member.last_heartbeat_at = f"member-{next(self._ids)}", self._clock()
        group.members[member.member_id] = member
        if former is None:
            return False
        # A static member that came back replaces the former one, immediately and without a rebalance.
        del group.members[former.member_id]
        if group.leader == former.member_id:
            group.leader, group.has_attentive_leader = member.member_id, False
        member.assigned, member.has_joined, member.counted = former.assigned, True, former.counted
        return True

    def _begin_join(self, group: ConsumerGroup, but: GroupMember | None = None) -> None:
        group.is_joining = True
        for member in group.members.values():
            member.has_joined = member is but

    def _end_join(self, group: ConsumerGroup) -> None:
        self._remove_expired(group)
        if not group.is_joining or not all(member.has_joined for member in group.members.values()):
            return
        group.is_joining = False
        group.generation += 1
        if group.leader not in group.members:
            group.leader = next(iter(group.members), "")
        group.has_attentive_leader = True
        self._assign(group)

    def _remove_expired(self, group: ConsumerGroup) -> None:
        now = self._clock()
        for member in list(group.members.values()):
            if member.is_alive():
                member.last_heartbeat_at = now
            elif now - member.last_heartbeat_at > member.session_seconds:
                del group.members[member.member_id]
                if not group.is_joining:
                    self._begin_join(group)

    def _wanted(self, group: ConsumerGroup) -> set[Partition]:
        topics = {topic for member in group.members.values() for topic in member.counted}
        return {partition for topic in topics for partition in self._partitions_of(topic)}

    def _assign(self, group: ConsumerGroup) -> None:
        """Sticky and cooperative: a partition is not assigned to one member while another one still holds it."""
        members = sorted(group.members.values(), key=lambda member: member.member_id)
        for member in members:
            member.counted = member.topics
        wanted = self._wanted(group)
        group.considered = frozenset(wanted)
        claims: dict[Partition, GroupMember] = {}
        for member in members:
            for partition in sorted(member.owned & wanted):
                if partition.topic in member.topics:
                    claims.setdefault(partition, member)
        most = -(-len(wanted) // len(members)) if members else 0
        kept: dict[str, list[Partition]] = {member.member_id: [] for member in members}
        held = set(claims)
        for partition, member in sorted(claims.items()):
            if len(kept[member.member_id]) < most:
                kept[member.member_id].append(partition)
        for partition in sorted(wanted - held):
            readers = [member for member in members if partition.topic in member.topics]
            poorest = min(readers, key=lambda member: (len(kept[member.member_id]), member.member_id))
            kept[poorest.member_id].append(partition)
        for member in members:
            member.assigned = frozenset(kept[member.member_id])
