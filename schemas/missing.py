"""Records that Kafka removed before a group had read them, as the process that noticed tells all others.

It stands in the compacted topic ``webhooks.endpoint-health`` beside the facts about endpoints (key: ``missing/webhooks.fanout/oms.orders/0/100``):
every process with a dashboard reads that topic anyway.
"""

from __future__ import annotations

from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.event import SCHEMA_VERSION, Offset, PartitionNumber, SchemaVersion

MISSING_KEY: Final = b"missing/"
"""What the keys of these records begin with; those of facts about endpoints begin with a number."""


class MissingRecord(BaseModel):
    """What one process found missing in one partition. A later record of the same key tells of all that came to it since."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: SchemaVersion = SCHEMA_VERSION
    group: str
    topic: str
    partition: PartitionNumber
    first: Offset = Field(description="The first offset that is gone.")
    until: Offset = Field(description="The first offset that was still there.")
    records: int = Field(ge=1, description="How many of the offsets between the two were not dealt with.")
    since: AwareDatetime = Field(description="When the first of them was noticed.")
    at: AwareDatetime = Field(description="When the last of them was noticed.")

    @property
    def key(self) -> bytes:
        """The record's key in the topic."""
        return MISSING_KEY + f"{self.group}/{self.topic}/{self.partition}/{self.first}".encode()
