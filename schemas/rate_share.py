"""What a process that delivers says in ``webhooks.rate-shares`` (key: the process): to which endpoints with a limited rate it sends."""

from __future__ import annotations

from typing import Literal

from schemas.event import SCHEMA_VERSION
from schemas.own_records import Int64Value, OwnRecord


class RateShareRecord(OwnRecord, frozen=True, kw_only=True, gc=False):
    """The last record of a process says all: an endpoint that it leaves out gets nothing from it any more."""

    schema_version: Literal[1] = SCHEMA_VERSION
    process: str
    """Made up anew by each process that starts."""
    endpoint_ids: tuple[Int64Value, ...]
