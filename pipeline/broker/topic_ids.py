"""Detects a recreated topic: one that was deleted and created again under the same name.

Positions in the old topic mean nothing in the new one: the recorder would mistake new records for recorded ones, a group would
start in the middle, and endpoints would silently disappear. So no role continues on its own. The problem is reported until an
operator accepts the new topic.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from uuid import UUID

from schemas.topic_ids import TopicIdsRecord


class TopicIds:
    """The known and the current ids of this process's topics. If the brokers have no ids, every topic counts as unchanged."""

    def __init__(self, topics: Collection[str]) -> None:
        """``topics``: those whose content this process reads."""
        self._topics = frozenset(topics)
        self._known: Mapping[str, str] = {}
        self._found: Mapping[str, str] = {}

    def learn(self, record: TopicIdsRecord) -> None:
        """Note the ids that are recorded in Kafka."""
        self._known = record.ids

    def note_current(self, found: Mapping[str, UUID]) -> None:
        """Note the current ids according to the brokers. May be called on any thread."""
        self._found = {**self._found, **{name: str(topic_id) for name, topic_id in found.items()}}

    def is_there(self, topic: str) -> bool:
        """Whether the brokers have reported the id of a topic."""
        return topic in self._found

    def watch(self, topics: Iterable[str]) -> None:
        """Also check these topics, which are read from now on."""
        self._topics = self._topics.union(topics)

    def recreated(self) -> list[str]:
        """The recreated topics."""
        return self.other_than_known(self._topics)

    def other_than_known(self, topics: Iterable[str]) -> list[str]:
        """The recreated topics among the given ones."""
        found, known = self._found, self._known
        return sorted(name for name in topics if name in found and known.get(name, found[name]) != found[name])

    def problem(self) -> str | None:
        """The problem in words. None if no topic was recreated."""
        if not (names := self.recreated()):
            return None
        commands = "; ".join(f"oms-webhooks topics --accept-recreated {name}" for name in names)
        are = "is another topic" if len(names) == 1 else "are other topics"
        return (
            f"{', '.join(names)} {are} than before: deleted, and created again under the same name. The old records are gone, and "
            "old positions mean nothing in the new topic, so nothing is read. Restore the old topic, or accept the new one: "
            f"{commands}"
        )

    def to_write(self, at: datetime) -> TopicIdsRecord | None:
        """The record to write if topics were seen for the first time; otherwise None."""
        if not self._found.keys() - self._known.keys():
            return None
        return TopicIdsRecord(ids={**self._found, **self._known}, at=at)

    def record_accepting(self, names: Collection[str], at: datetime) -> TopicIdsRecord:
        """The record to write when the new topics are accepted."""
        return TopicIdsRecord(ids={**self._found, **self._known, **{name: self._found[name] for name in names}}, at=at)
