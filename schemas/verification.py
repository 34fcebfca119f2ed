"""Whether and how an endpoint must prove that it wants webhooks before anything is delivered to it."""

from __future__ import annotations

import enum
from typing import Final

VERIFY_EVENT: Final = "webhook.verify"
"""The event that an endpoint must acknowledge."""


class Verification(enum.StrEnum):
    """How an endpoint is verified."""

    NONE = "none"
    CLOUDEVENTS_HANDSHAKE = "cloudevents_handshake"
    """OPTIONS with WebHook-Request-Origin, which WebHook-Allowed-Origin answers (CloudEvents, HTTP 1.1 Web Hooks, section 4)."""
    SIGNED_EVENT = "signed_event"
    """A signed event ``webhook.verify``, which the endpoint acknowledges."""


VERIFICATION_DESCRIPTION: Final = (
    "Whether the endpoint must be verified before anything is delivered: none, cloudevents_handshake (OPTIONS, answered with "
    "WebHook-Allowed-Origin) or signed_event (webhook.verify, which it acknowledges). Until then, deliveries are held. A new target_url is "
    "verified again."
)


def check_verification(value: object) -> str:
    """Raises ValueError: it is unknown; the text is a sentence."""
    if value is None:
        return Verification.NONE.value
    if isinstance(value, str) and value in set(Verification):
        return value
    raise ValueError(f"verification must be one of {', '.join(Verification)}.")
