"""The protocol of topic administration, and the values that it returns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, Self
from uuid import UUID

from schemas.topics import TopicSpec


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between a topic and its required configuration."""

    topic: str
    what: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.what} is {self.found}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class Growth:
    """A topic that needs more partitions."""

    topic: str
    before: int
    after: int


class TopicAdmin(Protocol):
    """Administers topics. Its calls block: run them in a thread, or before the event loop starts.

    Raises:
        UnavailableError: no broker answered in time.
        TopicError: Kafka refused.
    """

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def names(self) -> list[str]:
        """The names of all topics."""

    def ids(self, topics: Collection[str]) -> dict[str, UUID]:
        """The ids of topics. A recreated topic has another id. Topics are omitted if the brokers have no ids."""

    def create_missing(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the missing topics, and return their names. Safe to run from many processes at once."""

    def differences(self, specs: Sequence[TopicSpec]) -> list[Difference]:
        """Compare the topics with their required configuration: missing topics, fewer partitions, other settings."""

    def planned_growth(self, specs: Sequence[TopicSpec], wanted: int) -> list[Growth]:
        """The topics with fewer than ``wanted`` partitions, of those whose number of partitions is a setting."""

    def grow(self, planned: Sequence[Growth]) -> None:
        """Add partitions, and wait until the brokers report them."""

    def forget_commits(self, group: str, topic: str) -> None:
        """Delete a group's commits for a topic, so that the group reads it from its beginning.

        Raises:
            TopicError: a member of the group reads the topic.
        """

    def close(self) -> None:
        """Disconnect."""
