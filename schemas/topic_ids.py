"""Which topics there are, by the ids that Kafka gave them: one record of ``webhooks.endpoint-health``, the latest of which holds.

A topic that was deleted and made again under its name has another id. Whoever goes on in it from where it was would skip what is new.
"""

from __future__ import annotations

from typing import Final, Literal

from schemas.event import SCHEMA_VERSION
from schemas.own_records import OwnRecord, Time

TOPIC_IDS_KEY: Final = b"topic-ids"
"""The key of the record; those of facts about endpoints begin with a number."""


class TopicIdsRecord(OwnRecord, frozen=True, kw_only=True, gc=False):
    """The topics as they were when they were seen first, or begun anew on purpose."""

    schema_version: Literal[1] = SCHEMA_VERSION
    ids: dict[str, str]
    """UUIDs, by topic."""
    at: Time
