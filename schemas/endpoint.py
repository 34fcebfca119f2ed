"""The endpoint record in the compacted topic ``webhooks.endpoints`` (key: the endpoint's id).

A deleted endpoint keeps a last record with ``deleted`` set and its secrets gone, so that who deleted it is on record too.
"""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.event import SCHEMA_VERSION, Int64, Many, Offset, PartitionNumber, SchemaVersion

FilterValue = str | int | float | bool | None


class SealedSecret(BaseModel):
    """A signing secret, encrypted at rest. ``expires_at`` is set when it was rotated out (24 hours of grace)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    sealed: str
    expires_at: AwareDatetime | None = None


class HeldDrop(BaseModel):
    """Somebody chose not to send what was held for the endpoint in one partition of ``webhooks.held``.

    It concerns the records below an offset that are not younger than ``until``, the time of the last of them.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    partition: PartitionNumber
    below: Offset
    until: AwareDatetime
    dropped_by: str
    dropped_at: AwareDatetime


class EndpointRecord(BaseModel):
    """One registered endpoint and who changed it last.

    ``filters`` maps a path in the payload (``channel``, ``ship_address.country_iso``) to the values that it may have; an event
    matches when every path has one of its values.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_version: SchemaVersion = SCHEMA_VERSION
    id: Int64
    target_url: str
    events: Many[str]
    description: str = ""
    active: bool = True
    filters: dict[str, Many[FilterValue]] = Field(default_factory=dict)
    max_per_second: int | None = Field(
        default=None, ge=1, description="Most requests a second, of each process that delivers; null: no limit."
    )
    sealed_token: str | None = None
    sealed_headers: dict[str, str] = Field(default_factory=dict, description="Headers of its own: names, sealed values.")
    secrets: Many[SealedSecret] = ()
    created_at: AwareDatetime
    updated_at: AwareDatetime
    version: Int64 = Field(default=1, description="Rises by one with every change.")
    activated_version: Int64 = Field(
        default=1,
        description="The version that activated it last (create, active: true, a new target_url): what was known of its health ends there.",
    )
    drops: Many[HeldDrop] = Field(default=(), description="The last drop of each partition of webhooks.held.")
    deleted: bool = False
    change: str = Field(default="create", description="create, update, rotate_secret, drop_held, delete")
    changed_by: str = ""
