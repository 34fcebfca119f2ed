"""Builds the request of a delivery: signed, with the endpoint's credentials and headers. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pipeline.core.exchange import Request
from pipeline.core.handshake import ORIGIN
from pipeline.core.redaction import REDACTED
from pipeline.core.signing import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from pipeline.core.trace import TraceContext
from pipeline.delivery.delivery import Delivery, SignedRequest
from schemas.event_key import EVENT_KEY_HEADER, EVENT_SEQUENCE_HEADER

CONTENT_TYPE: Final = "application/json"


def signed_request(delivery: Delivery, trace: TraceContext | None, now: datetime) -> SignedRequest:
    """The request of one attempt, signed ``now``. ``trace`` is the attempt's own trace context."""
    endpoint, event, body = delivery.endpoint, delivery.event, delivery.body
    timestamp = int(now.timestamp())
    shown = {
        "content-type": CONTENT_TYPE,
        ID_HEADER: event.id,
        TIMESTAMP_HEADER: str(timestamp),
        SIGNATURE_HEADER: sign(endpoint.signers(now), event.id, timestamp, body),
    }
    if event.key is not None and event.sequence is not None:
        shown[EVENT_KEY_HEADER] = event.key
        shown[EVENT_SEQUENCE_HEADER] = str(event.sequence)
    if trace is not None:
        shown |= trace.headers()
    if endpoint.is_plain:
        return SignedRequest(Request(endpoint.target_url, shown, body), shown)
    headers, named = {**endpoint.headers, **shown}, list(endpoint.headers)
    if (credential := endpoint.header_credential) is not None:
        headers[credential.name] = credential.value
        if credential.is_named:
            named.append(credential.name)
    if (signature := endpoint.body_signature) is not None:
        shown[signature.name] = headers[signature.name] = signature.value(body)
    if (origin := endpoint.record.verified_origin) is not None:  # the receiver has allowed it
        shown[ORIGIN] = headers[ORIGIN] = origin
    # The record of an attempt names custom headers; their values may be passwords.
    return SignedRequest(
        Request(endpoint.target_url, headers, body, endpoint.identity), {**dict.fromkeys(named, REDACTED), **shown}
    )
