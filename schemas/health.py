"""What is known of an endpoint's health: records of the compacted topic ``webhooks.endpoint-health``.

A record is one fact about one endpoint (key: ``7/failing``). Facts are apart so that no process overwrites what another one has
found out about something else: any process that delivers may write any of them, and the last one to know stands.
"""

from __future__ import annotations

import enum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.event import SCHEMA_VERSION, Int64, Offset, PartitionNumber, SchemaVersion


class HealthFact(enum.StrEnum):
    """What a record tells."""

    FAILING = "failing"
    """``since``: the first failure after the last success; none when the last attempt succeeded."""
    CIRCUIT = "circuit"
    """``circuit``, and ``until`` when an open one will be probed: as the process that wrote it last has it."""
    DISABLED = "disabled"
    """It was disabled ``at``, for ``reason`` and ``detail``. Never taken back: an activation of the endpoint outdates it."""
    HELD = "held"
    """What waits for it in one ``partition`` of ``webhooks.held``. It holds whatever the version of the endpoint is.

    ``held`` deliveries wait in the offsets from ``done`` to below ``counted``, the oldest ``since``. What stands below ``done`` was released, or
    ended on record. ``done_at`` and ``counted_at`` are the times of the last records below these offsets: a topic that was made anew
    begins again with offset 0, and what it holds is younger.
    """


class DisabledReason(enum.StrEnum):
    """Why an endpoint was disabled."""

    GONE = "gone"
    FAILING = "failing"


class HealthRecord(BaseModel):
    """One fact. It holds for the endpoint as it was at ``endpoint_version``: a later activation of the endpoint ends it.

    Versions are compared, not times: the clocks of two processes may differ.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: SchemaVersion = SCHEMA_VERSION
    endpoint_id: Int64
    endpoint_version: Int64
    fact: HealthFact
    at: AwareDatetime
    since: AwareDatetime | None = None
    circuit: str = ""
    until: AwareDatetime | None = None
    reason: str = Field(default="", description="A DisabledReason.")
    detail: str = Field(default="", description="The reason in a sentence, for people.")
    partition: PartitionNumber | None = None
    held: int = Field(default=0, ge=0, description="How many deliveries wait.")
    done: Offset = 0
    done_at: AwareDatetime | None = None
    counted: Offset = 0
    counted_at: AwareDatetime | None = None

    @property
    def key(self) -> bytes:
        """The record's key in the topic."""
        place = "" if self.partition is None else f"/{self.partition}"
        return f"{self.endpoint_id}/{self.fact.value}{place}".encode()
