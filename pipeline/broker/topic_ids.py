"""Tells a topic that was made anew (deleted, and created again under its name) from the one that is known.

Positions of the former topic mean nothing in the new one: the recorder would take new records for recorded ones, a group would begin in the
middle, and endpoints would be gone without a word. So nobody goes on by himself: it is said in words, until somebody begins anew on purpose.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from uuid import UUID

from schemas.topic_ids import TopicIdsRecord


class TopicIds:
    """What is known of the topics of one process, and what Kafka says now. Brokers that give no ids are taken at their word."""

    def __init__(self, topics: Collection[str]) -> None:
        """``topics``: those whose content this process reads."""
        self._topics = frozenset(topics)
        self._known: Mapping[str, str] = {}
        self._found: Mapping[str, str] = {}

    def learn(self, record: TopicIdsRecord) -> None:
        """What stands in Kafka."""
        self._known = record.ids

    def see(self, found: Mapping[str, UUID]) -> None:
        """What brokers say now. May be called on any thread."""
        self._found = {**self._found, **{name: str(topic_id) for name, topic_id in found.items()}}

    def is_there(self, topic: str) -> bool:
        """Whether brokers gave the id of a topic."""
        return topic in self._found

    def watch(self, topics: Iterable[str]) -> None:
        """Look after these too, whose content is read from now on."""
        self._topics = self._topics.union(topics)

    def made_anew(self) -> list[str]:
        """The topics that are not those that are known."""
        return self.other_than_known(self._topics)

    def other_than_known(self, topics: Iterable[str]) -> list[str]:
        """Those of some topics that are not those that are known."""
        found, known = self._found, self._known
        return sorted(name for name in topics if name in found and known.get(name, found[name]) != found[name])

    def problem(self) -> str | None:
        """The same in words."""
        if not (names := self.made_anew()):
            return None
        commands = "; ".join(f"oms-webhooks topics --begin-anew {name}" for name in names)
        are = "is another topic" if len(names) == 1 else "are other topics"
        return (
            f"{', '.join(names)} {are} than before: deleted, and made again under the same name. What was in the former one is gone, and positions "
            f"in it mean nothing in this one, so nothing is read. Restore the former one, or begin anew on purpose: {commands}"
        )

    def to_write(self, at: datetime) -> TopicIdsRecord | None:
        """What must stand in Kafka from now on, when topics were seen for the first time."""
        if not self._found.keys() - self._known.keys():
            return None
        return TopicIdsRecord(ids={**self._found, **self._known}, at=at)

    def begun_anew(self, names: Collection[str], at: datetime) -> TopicIdsRecord:
        """What must stand in Kafka when these are taken for new ones."""
        return TopicIdsRecord(ids={**self._found, **self._known, **{name: self._found[name] for name in names}}, at=at)
