"""The attributes by which attempts are searched and sorted, and their types."""

from __future__ import annotations

import enum
from typing import Final

from schemas.attempt import Outcome
from schemas.delivery import Trigger


class Kind(enum.Enum):
    """The type of an attribute; it decides how values are read and which predicates make sense."""

    INTEGER = "a whole number"
    NUMBER = "a number"
    TIME = "a time"
    STATE = "succeeded or failed"
    BOOLEAN = "true or false"
    TEXT = "text"
    TEXTS = "several texts"
    BODY = "the text of a body"


ATTRIBUTES: Final[dict[str, Kind]] = {
    "id": Kind.INTEGER,
    "event_id": Kind.TEXT,
    "event_name": Kind.TEXT,
    "endpoint_id": Kind.INTEGER,
    "target_url": Kind.TEXT,
    "http_status_code": Kind.INTEGER,
    "state": Kind.STATE,
    "outcome": Kind.TEXT,
    "failure": Kind.TEXT,
    "trigger": Kind.TEXT,
    "attempt": Kind.INTEGER,
    "duration_ms": Kind.NUMBER,
    "error": Kind.TEXT,
    "idempotency_key": Kind.TEXT,
    "created_at": Kind.TIME,
    "order_number": Kind.TEXT,
    "shipment_number": Kind.TEXTS,
    "subscription_id": Kind.TEXT,
    "stock_item_id": Kind.INTEGER,
    "sku": Kind.TEXTS,
    "request_body": Kind.BODY,
    "response_body": Kind.TEXT,
    "response_truncated": Kind.BOOLEAN,
}
"""All attributes that attempts can be searched by. ``outcome``, ``failure``, ``trigger`` and ``response_truncated`` are our own
additions. Tokens and secrets are not stored at all.
"""

WORDS: Final[dict[str, tuple[str, ...]]] = {"outcome": tuple(Outcome), "trigger": tuple(Trigger)}
"""Texts that can only be one of a few words. A different word is a typo, which a negation would turn into everything."""

SORTABLE: Final = frozenset(ATTRIBUTES) - {"shipment_number", "sku", "request_body", "response_body"}

_ALIASES: Final = {"event": "event_name"}


def canonical(name: str) -> str:
    """The attribute that a name means."""
    return _ALIASES.get(name, name)
