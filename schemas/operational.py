"""Operational events, for the people who run the pipeline: topic ``webhooks.operational-events``, key: the endpoint's id.

They have the envelope of the OMS's events. They are signed, retried, recorded and found like those, and go to a single receiver,
which ``operational_url`` sets.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec
from msgspec import Raw

from schemas.event import SCHEMA_VERSION, EventMeta
from schemas.own_records import Int64Value, OwnRecord, RewrittenRecord, Time, explained

OperationalName = Literal[
    "endpoint.disabled",
    "endpoint.failing",
    "endpoint.will_be_disabled",
    "endpoint.recovered",
    "endpoint.secret_expiring",
    "endpoint.certificate_expiring",
    "endpoint.filter_failing",
]
OPERATIONAL_NAMES: Final[tuple[str, ...]] = get_args(OperationalName)
ENDPOINT_DISABLED: Final = "endpoint.disabled"
ENDPOINT_FAILING: Final = "endpoint.failing"
ENDPOINT_WILL_BE_DISABLED: Final = "endpoint.will_be_disabled"
ENDPOINT_RECOVERED: Final = "endpoint.recovered"
ENDPOINT_SECRET_EXPIRING: Final = "endpoint.secret_expiring"
ENDPOINT_CERTIFICATE_EXPIRING: Final = "endpoint.certificate_expiring"
ENDPOINT_FILTER_FAILING: Final = "endpoint.filter_failing"
OPERATIONAL_ENDPOINT_ID: Final = 0
"""The id of the built-in receiver. Registered endpoints count from 1."""


class DisabledEndpoint(OwnRecord, frozen=True, kw_only=True, gc=False):
    """The data of ``endpoint.disabled``."""

    id: Int64Value
    target_url: str
    description: str
    reason: str
    detail: str
    disabled_at: Time
    failing_since: Time | None = None


class EndpointNotice(OwnRecord, frozen=True, kw_only=True, gc=False):
    """The data of all other events. Members that do not apply to an event are null.

    ``failing``, ``will_be_disabled``: failing_since, will_be_disabled_at; the latter also ``percent`` (50, 75, 90).
    ``recovered``: failing_since, recovered_at. ``secret_expiring``: expires_at. ``certificate_expiring``: expires_at, and
    ``days`` (30, 7, 1), within which it expires. ``filter_failing``: failing_since, the ``expression`` or its part that fails,
    and ``event_id``, the last event on which it failed.
    """

    id: Int64Value
    target_url: str
    description: str
    detail: str
    failing_since: Time | None = None
    will_be_disabled_at: Time | None = None
    percent: int | None = None
    recovered_at: Time | None = None
    expires_at: Time | None = None
    days: int | None = None
    expression: str | None = None
    event_id: str | None = None


_disabled = msgspec.json.Decoder(DisabledEndpoint)
_notice = msgspec.json.Decoder(EndpointNotice)


class OperationalEvent(RewrittenRecord, frozen=True, kw_only=True, gc=False):
    """An operational event. One occurrence always has the same id, however often and by whichever process it is reported.

    ``data`` are the bytes of a `DisabledEndpoint` or an `EndpointNotice`, depending on the name. They are sent unchanged.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str
    event_name: OperationalName
    occurred_at: Time
    data: Raw

    def __post_init__(self) -> None:
        """Raises ValueError: the data do not belong to the name."""
        if isinstance(self.notice, DisabledEndpoint) != (self.event_name == ENDPOINT_DISABLED):
            raise ValueError(f"the data are not those of {self.event_name}")

    @property
    def notice(self) -> DisabledEndpoint | EndpointNotice:
        """The data, read."""
        try:
            return _disabled.decode(self.data)
        except msgspec.ValidationError:
            pass
        try:
            return _notice.decode(self.data)
        except msgspec.ValidationError as error:
            raise ValueError(f"data: {explained(error).removesuffix('.')}") from None

    @property
    def meta(self) -> EventMeta:
        return EventMeta(id=self.id, event_name=self.event_name, created_at=self.occurred_at)
