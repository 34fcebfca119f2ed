"""A delivering process's announcement in ``webhooks.rate-shares`` (key: the process): the rate-limited endpoints it sends to."""

from __future__ import annotations

from typing import Literal

from schemas.event import SCHEMA_VERSION
from schemas.own_records import Int64Value, OwnRecord


class RateShareRecord(OwnRecord, frozen=True, kw_only=True, gc=False):
    """The endpoints that a process sends to. Its last record is complete: it no longer sends to any others."""

    schema_version: Literal[1] = SCHEMA_VERSION
    process: str
    """Each process chooses a new name when it starts."""
    endpoint_ids: tuple[Int64Value, ...]
