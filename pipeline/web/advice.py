"""Advice in sentences: for receivers about an attempt, for the OMS about a dead letter. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.core.exchange import Failure
from pipeline.core.outcome import ACKNOWLEDGED
from schemas.delivery import DeadLetterReason

_SOON: Final = "Return 200, 201, 202 or 204 as soon as the notification is stored, and process it afterwards."
_BY_FAILURE: Final[Mapping[str, str]] = {
    Failure.TIMEOUT: f"The response took too long. {_SOON}",
    Failure.CONNECT_TIMEOUT: "The connection was not accepted in time. Check that the server is running and that its firewall allows our addresses.",
    Failure.CONNECTION_REFUSED: "Nothing is listening on this port. Start the receiver, or correct the port in the target URL.",
    Failure.CONNECTION_RESET: (
        "The connection was closed before the response was complete. Look for crashes and restarts in the receiver's log, and for "
        "limits on body size or time in the proxy in front of it."
    ),
    Failure.DNS: "The host name does not resolve. Correct the target URL or the DNS records.",
    Failure.TLS: "Fix the certificate or the TLS settings: a public authority, the right host name, the full chain, TLS 1.2 or newer.",
    Failure.TRUNCATED: "The response was incomplete. Send a correct Content-Length. The best response to a webhook has no body at all (204).",
    Failure.INVALID_RESPONSE: "The response is not valid HTTP. Check that the URL points to the receiver and has the right scheme and port.",
    Failure.BLOCKED_ADDRESS: "The host name resolves to an address that webhooks are not sent to, such as a private one. Use a public address.",
    Failure.INVALID_TARGET: "The target URL or one of the endpoint's headers cannot be used. Correct the endpoint.",
    Failure.TOKEN_ENDPOINT: "No access token was available, so nothing was sent. Check the token endpoint and the endpoint's client ID, secret and scopes.",
    Failure.CONNECTION: "No connection could be made. Check that the server can be reached from outside.",
}
_BY_STATUS: Final[Mapping[int, str]] = {
    400: "The receiver did not understand the request. Read the body as JSON, allow at least 1 MB, and accept unknown fields.",
    401: "The receiver rejected the credentials. Set the authentication that it expects on the endpoint: a token, a username and password, an API key, or OAuth.",
    403: "The receiver forbids the request. Look for a firewall (WAF) or a CSRF check on this path. Webhooks send neither cookies nor forms.",
    404: "There is nothing at this path. Correct the target URL.",
    405: "This path does not accept POST. Correct the target URL or the route.",
    408: f"The receiver gave up waiting for the request. {_SOON}",
    409: "A conflict usually means that the receiver already has this notification. Return 200 for a retry (same webhook-id).",
    410: "The receiver says that it is permanently gone. If that is true, delete or pause the endpoint.",
    411: "The receiver needs a Content-Length, and we send one. Check the proxy in front of it.",
    413: "The body is too large for the receiver. Raise its limit, and the limit of the proxy in front of it.",
    415: "The receiver does not accept application/json. Accept this content type.",
    422: "The receiver rejects the content. Acknowledge notifications even if you do not need them.",
    429: "The receiver is getting too many requests. Set max_per_second on the endpoint. A Retry-After header is honored.",
    500: "Search the receiver's log at this time for the webhook-id, and fix what failed there.",
    501: "The receiver does not support POST. Correct the target URL or the route.",
    502: "The proxy in front of the receiver got no valid response from it. Check that the receiver is running.",
    503: "Nothing, if it was temporarily overloaded or under maintenance. Retries honor a Retry-After header.",
    504: f"The proxy in front of the receiver waited too long. {_SOON}",
}
_BY_CLASS: Final[Mapping[int, str]] = {
    2: "Only 200, 201, 202 and 204 acknowledge a notification. Return one of them.",
    3: "Redirects are not followed. Register the final URL as the target URL.",
    4: "The receiver rejects the request. Search its log at this time for the webhook-id.",
}
_EXPIRED: Final = (
    "The notification waited too long: the endpoint was paused, disabled or not verified, or it gets its events in order and an "
    "earlier one was not delivered. Fix that, then resend the notifications that it still needs."
)
_DISCARDED: Final = "Nothing was sent. To send it, resume the endpoint or subscribe it to the event type again, then resend."
_BY_REASON: Final[Mapping[str, str]] = {
    DeadLetterReason.NULL_VALUE: "Publish the event as JSON. A null value (a tombstone) has no meaning here.",
    DeadLetterReason.MISSING_KEY: "Enter the key: the order number or, for stock events, the stock item id. Then change the producer so that it sends the key.",
    DeadLetterReason.TOO_LARGE: "Leave out what receivers do not need, or raise max_event_bytes and publish it again unchanged.",
    DeadLetterReason.NOT_JSON: "Fix the JSON (UTF-8) and the producer that wrote it.",
    DeadLetterReason.UNKNOWN_EVENT: "event_name must be one of the event types, in its own topic. Correct it, or publish the record again: it then goes to the right topic, and event types added in the meantime are known.",
    DeadLetterReason.INVALID_ENVELOPE: "Fix the fields named above. The envelope has id, event_name, occurred_at and data.",
    DeadLetterReason.INVALID_PAYLOAD: "Fix the fields of data named above. Other fields may have any value.",
    DeadLetterReason.UNSUPPORTED_VERSION: "Upgrade OMS webhooks, then publish it again unchanged.",
    DeadLetterReason.UNEXPECTED_ERROR: "This is a bug in OMS webhooks. See the log. Once it is fixed, publish the record again unchanged.",
}
_OURS: Final = (
    "This record comes from one of our own topics, not from a producer. See “Records of our own topics” in docs/runbook.md. When that "
    "is done, dismiss it."
)


def for_receiver(outcome: str, failure: str | None, status: int | None) -> str | None:
    """What the receiver should do about an attempt. None if it was acknowledged."""
    if outcome == "discarded":
        return _DISCARDED
    if outcome == "expired":
        return _EXPIRED
    if failure is not None:
        return _BY_FAILURE.get(failure, _BY_FAILURE[Failure.CONNECTION])
    if status is None or status in ACKNOWLEDGED:
        return None
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100) or _BY_STATUS[500]


def for_dead_letter(reason: str, *, is_event: bool) -> str:
    """What to do about a record that could not be used. ``is_event``: whether it came from a topic of events."""
    return _BY_REASON.get(reason, _OURS) if is_event else _OURS
