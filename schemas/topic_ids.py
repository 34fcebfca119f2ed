"""The ids that Kafka gave the topics: a record of ``webhooks.endpoint-health``, of which the latest counts.

A recreated topic has the same name and another id. A reader that continued at its old position would skip new records.
"""

from __future__ import annotations

from typing import Final, Literal

from schemas.event import SCHEMA_VERSION
from schemas.own_records import OwnRecord, Time

TOPIC_IDS_KEY: Final = b"topic-ids"
"""The key of the record; those of facts about endpoints begin with a number."""


class TopicIdsRecord(OwnRecord, frozen=True, kw_only=True, gc=False):
    """The topics as they were first seen, or accepted after they were recreated."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ids: dict[str, str]
    """UUIDs, by topic name."""
    at: Time
