"""The announcement of a delivering process in ``webhooks.rate-shares`` (key: the process): the endpoints with a rate limit that
it sends to.

"""

from __future__ import annotations

from typing import Literal

from schemas.event import SCHEMA_VERSION
from schemas.own_records import Int64Value, OwnRecord


class RateShareRecord(OwnRecord, frozen=True, kw_only=True, gc=False):
    """The last record of a process is complete: it no longer sends to endpoints that are not in it."""

    schema_version: Literal[1] = SCHEMA_VERSION
    process: str
    """Each process chooses a new one when it starts."""
    endpoint_ids: tuple[Int64Value, ...]
