"""Records that Kafka removed before a group had read them, reported by the process that noticed.

They are in the compacted topic ``webhooks.endpoint-health`` beside the facts about endpoints (key:
``missing/webhooks.fanout/oms.orders/0/100``), because every process with a dashboard reads that topic anyway.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from schemas.event import SCHEMA_VERSION
from schemas.own_records import OffsetValue, PartitionValue, RewrittenRecord, Time

MISSING_KEY: Final = b"missing/"
"""The beginning of the keys of these records; keys of facts about endpoints begin with a number."""


class MissingRecord(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """What one process found missing in one partition. A later record with the same key includes what was lost since."""

    schema_version: Literal[1] = SCHEMA_VERSION
    group: str
    topic: str
    partition: PartitionValue
    first: OffsetValue
    """The first offset that is gone."""
    until: OffsetValue
    """The first offset that was still there."""
    records: Annotated[int, Meta(ge=1)]
    """How many of the offsets between the two were not processed."""
    since: Time
    """When the first of them was noticed."""
    at: Time
    """When the last of them was noticed."""

    @property
    def key(self) -> bytes:
        """The record's key in the topic."""
        return MISSING_KEY + f"{self.group}/{self.topic}/{self.partition}/{self.first}".encode()
