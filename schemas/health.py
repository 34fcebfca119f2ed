"""The endpoints' health: records of the compacted topic ``webhooks.endpoint-health``.

A record is one fact about one endpoint (key: ``7/failing``). Facts have separate records so that no process overwrites a
different fact of another: any delivering process may write any of them, and the last record counts.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

from msgspec import Meta

from schemas.event import SCHEMA_VERSION
from schemas.own_records import Int64Value, OffsetValue, OwnRecord, PartitionValue, Time


class HealthFact(enum.StrEnum):
    """The kinds of facts."""

    FAILING = "failing"
    """``since``: the first failure after the last success; None if the last attempt succeeded."""
    CIRCUIT = "circuit"
    """``circuit``, and ``until`` when an open one will be probed, in the process that wrote it last."""
    DISABLED = "disabled"
    """It was disabled ``at``, for ``reason`` and ``detail``. Never withdrawn: an activation of the endpoint makes it obsolete."""
    HELD = "held"
    """Its held deliveries in one ``partition`` of ``webhooks.held``. Valid for all versions of the endpoint.

    ``held`` deliveries wait at the offsets from ``done`` to below ``counted``, the oldest ``since``. Those below ``done`` were
    released or have ended. ``done_at`` and ``counted_at`` are the times of the last records below these offsets: a recreated
    topic starts again at offset 0, and its records are younger.
    """
    ORDERED = "ordered"
    """Its waiting ordered deliveries in one ``partition`` of ``webhooks.ordered``: ``held`` deliveries in ``count`` lanes, the
    oldest ``since``.

    The longest-waiting head is ``event_id``, with the event key ``detail``. It waits for a ``reason`` (a word); its next attempt
    is due ``until``, if that is known.
    """
    SECRET = "secret"
    """Its owner was told that rotated secrets expire; the last one expires ``until``."""
    CERTIFICATE = "certificate"
    """Its owner was ``told`` within how many days its client certificate expires; it expires ``until``."""
    FILTER = "filter"
    """Its filter ``expression`` failed on ``count`` events, the last of them ``event_id``, ``at``, for ``reason`` and ``detail``.

    There has been no day without a failure since ``since``; ``told``: the last of those days that its owner was told of.
    """


class DisabledReason(enum.StrEnum):
    """Why an endpoint was disabled."""

    GONE = "gone"
    FAILING = "failing"


class HealthRecord(OwnRecord, frozen=True, kw_only=True, gc=False):
    """One fact. It applies to the endpoint at ``endpoint_version``: a later activation of the endpoint ends it.

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
    """A DisabledReason; for a filter, the kind of failure."""
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
    """How many events the filter failed on, or in how many lanes deliveries wait."""
    process: str = ""
    """Of a circuit: which process reported it, so that a process does not mistake its own report for another's."""
    told: tuple[str, ...] = ()
    """What its owner was told: for a failing endpoint see core.failing_stages."""

    @property
    def key(self) -> bytes:
        """The record's key in the topic."""
        place = "" if self.partition is None else f"/{self.partition}"
        return f"{self.endpoint_id}/{self.fact.value}{place}".encode()
