"""What there is to do: for the receiver about an attempt, for the OMS about a dead letter. Pure; sentences for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.core.exchange import Failure
from pipeline.core.outcome import ACKNOWLEDGED
from schemas.delivery import DeadLetterReason

_SOON: Final = "Answer with 200, 201, 202 or 204 as soon as the notification is stored, and do the work afterwards."
_BY_FAILURE: Final[Mapping[str, str]] = {
    Failure.TIMEOUT: f"The answer took too long. {_SOON}",
    Failure.CONNECT_TIMEOUT: "Nobody took the connection in time. Check that the server runs, and that its firewall lets our addresses in.",
    Failure.CONNECTION_REFUSED: "Nothing listens on this port. Start the receiver, or correct the port of the target URL.",
    Failure.CONNECTION_RESET: (
        "The connection was cut before the answer was complete. Look for crashes and restarts in the receiver's log, and for limits "
        "on body size or time in the proxy before it."
    ),
    Failure.DNS: "The host name is not known. Correct the target URL, or the name's DNS records.",
    Failure.TLS: "The certificate or the TLS settings must be mended: a public authority, the right host name, the whole chain, TLS 1.2 or newer.",
    Failure.TRUNCATED: "The answer broke off. Send a Content-Length that is right; the best answer to a webhook has no body at all (204).",
    Failure.INVALID_RESPONSE: "The answer is not HTTP as it should be. Check that the URL leads to the receiver, and scheme and port.",
    Failure.BLOCKED_ADDRESS: "The host name leads to an address that webhooks are not sent to (private, loopback, …). Use a public one.",
    Failure.INVALID_TARGET: "The target URL or one of the endpoint's headers cannot be used. Correct the endpoint.",
    Failure.TOKEN_ENDPOINT: "There was no access token, so nothing was sent. Check the token endpoint, and the endpoint's client id, secret and scopes.",
    Failure.CONNECTION: "There was no connection. Check that the server can be reached from outside.",
}
_BY_STATUS: Final[Mapping[int, str]] = {
    400: "It did not understand the request. Read the body as JSON, of at least 1 MB, and accept fields that you do not know.",
    401: "It wants other credentials. Set the authentication that it expects on the endpoint: a token, a user name and password, an API key, or OAuth.",
    403: "It forbids the request. Look for a firewall (WAF) or a CSRF check on that path: webhooks come with neither cookies nor forms.",
    404: "There is nothing at this path. Correct the target URL.",
    405: "This path takes no POST. Correct the target URL or the route.",
    408: f"It gave up waiting for the request. {_SOON}",
    409: "A conflict usually means that it knows this notification already: answer a retry (same webhook-id) with 200.",
    410: "It says that it is gone for good. Delete or pause the endpoint if that is meant.",
    411: "It wants a Content-Length, and gets one: look at the proxy before it.",
    413: "The body is too large for it. Raise the limit of the receiver and of the proxy before it.",
    415: "It does not take application/json. Accept that content type.",
    422: "It refuses the content. Accept what you do not need, and acknowledge it: a notification is not a question.",
    429: "It gets more than it wants. Set max_per_second on the endpoint; a Retry-After is honoured.",
    500: "Search its log at this time for the webhook-id. Fix what failed there, then resend.",
    501: "It does not know how to take a POST. Correct the target URL or the route.",
    502: "The proxy before it gets no proper answer from it. Check that the receiver runs.",
    503: "Nothing, if it is overloaded or being maintained for a while: the retries go on, and a Retry-After is honoured.",
    504: f"The proxy before it waited too long. {_SOON}",
}
_BY_CLASS: Final[Mapping[int, str]] = {
    2: "Only 200, 201, 202 and 204 acknowledge. Answer with one of them.",
    3: "Redirects are not followed. Register the final URL as the target URL.",
    4: "It refuses the request. Search its log at this time for the webhook-id.",
}
_EXPIRED: Final = (
    "Nothing was sent: the endpoint was paused or disabled for too long. Resume it; then resend what it should still get."
)
_DISCARDED: Final = "Nothing was sent. If it should be, make the endpoint active or subscribe it again, then resend."
_BY_REASON: Final[Mapping[str, str]] = {
    DeadLetterReason.NULL_VALUE: "Publish the event as JSON. A null (a tombstone) means nothing to webhooks.",
    DeadLetterReason.MISSING_KEY: "Give the key: the order number, or for stock events the stock item id. Then have the producer send it.",
    DeadLetterReason.TOO_LARGE: "Leave out what receivers do not need, or raise max_event_bytes and publish it again as it was.",
    DeadLetterReason.NOT_JSON: "Mend the JSON (UTF-8), and the producer that wrote it.",
    DeadLetterReason.UNKNOWN_EVENT: "event_name must be one of the event types, in its own topic. Correct it, or publish it again: it then goes to the right topic, and event types that were added since are known.",
    DeadLetterReason.INVALID_ENVELOPE: "Mend the fields that are named. The envelope has id, event_name, occurred_at and data.",
    DeadLetterReason.INVALID_PAYLOAD: "Mend the fields of data that are named; all others may be as they like.",
    DeadLetterReason.UNSUPPORTED_VERSION: "Upgrade OMS webhooks, then publish it again as it was.",
    DeadLetterReason.UNEXPECTED_ERROR: "That is a fault of ours: see the log. When it is mended, publish the record again as it was.",
}
_OURS: Final = "It is a record of our own topics; docs/runbook.md says how to deal with it."


def for_receiver(outcome: str, failure: str | None, status: int | None) -> str | None:
    """What the receiver should do about an attempt; None when it was acknowledged."""
    if outcome == "discarded":
        return _DISCARDED
    if outcome == "expired":
        return _EXPIRED
    if failure is not None:
        return _BY_FAILURE.get(failure, _BY_FAILURE[Failure.CONNECTION])
    if status is None or status in ACKNOWLEDGED:
        return None
    return _BY_STATUS.get(status) or _BY_CLASS.get(status // 100) or _BY_STATUS[500]


def for_dead_letter(reason: str) -> str:
    """What to do about a record that could not be used."""
    return _BY_REASON.get(reason, _OURS)
