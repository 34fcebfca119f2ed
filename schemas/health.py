"""What is known of an endpoint's health: records of the compacted topic ``webhooks.endpoint-health``.

A record is one fact about one endpoint (key: ``7/failing``). Facts are apart so that no process overwrites what another one has
found out about something else: any process that delivers may write any of them, and the last one to know stands.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

from msgspec import Meta

from schemas.event import SCHEMA_VERSION
from schemas.own_records import Int64Value, OffsetValue, OwnRecord, PartitionValue, Time


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
    ORDERED = "ordered"
    """What is held back in order for it in one ``partition`` of ``webhooks.ordered``: ``held`` deliveries in ``count`` lanes, the oldest ``since``.

    The one that has been the head for longest is ``event_id``, with the event key ``detail``; its next attempt is due ``until`` then, or
    none is, for a ``reason`` (a word).
    """
    SECRET = "secret"
    """Its owner was told that a secret that was rotated out ends: the last one does ``until`` then."""
    CERTIFICATE = "certificate"
    """Its owner was ``told`` that its client certificate, which expires ``until`` then, expires within so many days."""
    FILTER = "filter"
    """A filter of it failed on ``count`` events, the last of them ``event_id``, ``at``: ``expression``, for ``reason`` and ``detail``. It has done
    so ``since`` then without a day between two failures; ``told``: the last of those days of which its owner was told.
    """


class DisabledReason(enum.StrEnum):
    """Why an endpoint was disabled."""

    GONE = "gone"
    FAILING = "failing"


class HealthRecord(OwnRecord, frozen=True, kw_only=True, gc=False):
    """One fact. It holds for the endpoint as it was at ``endpoint_version``: a later activation of the endpoint ends it.

    Versions are compared, not times: the clocks of two processes may differ.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    endpoint_id: Int64Value
    endpoint_version: Int64Value
    fact: HealthFact
    at: Time
    since: Time | None = None
    circuit: str = ""
    until: Time | None = None
    reason: str = ""
    """A DisabledReason; of a filter, the kind of failure."""
    detail: str = ""
    """The reason in a sentence, for people."""
    partition: PartitionValue | None = None
    held: Annotated[int, Meta(ge=0)] = 0
    """How many deliveries wait."""
    done: OffsetValue = 0
    done_at: Time | None = None
    counted: OffsetValue = 0
    counted_at: Time | None = None
    event_id: str = ""
    expression: str = ""
    count: Annotated[int, Meta(ge=0)] = 0
    """On how many events the filter failed; in how many lanes deliveries are held back."""
    process: str = ""
    """Of a circuit: which process reported it, so that a process does not mistake its own report for another's."""
    told: tuple[str, ...] = ()
    """What its owner was told: of a failing endpoint see core.failing_stages."""

    @property
    def key(self) -> bytes:
        """The record's key in the topic."""
        place = "" if self.partition is None else f"/{self.partition}"
        return f"{self.endpoint_id}/{self.fact.value}{place}".encode()
