"""From an exchange to the record of the attempt. Pure; credentials never get here."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime

from pipeline.core.exchange import Exchange, NoResponse
from pipeline.core.outcome import Delivered, Exhausted, Repeat, Verdict, error_sentence
from schemas.attempt import Attempt, AttemptState, Outcome
from schemas.checked import checked
from schemas.delivery import Trigger
from schemas.event import SCHEMA_VERSION, EventMeta

_STATUS_CODES = range(100, 1000)
"""Three digits; what else a receiver may write says nothing (and the record cannot hold it)."""


def attempt_record(
    event: EventMeta,
    *,
    endpoint_id: int,
    target_url: str,
    attempt: int,
    trigger: Trigger,
    started_at: datetime,
    finished_at: datetime,
    request_headers: Mapping[str, str],
    exchange: Exchange,
    verdict: Verdict,
) -> Attempt:
    """Describe an attempt that was made. ``request_headers`` must hold no credentials."""
    body, encoding = _as_text(exchange.body)
    match verdict:
        case Delivered():
            outcome, next_attempt_at = Outcome.DELIVERED, None
        case Repeat(delay):
            outcome, next_attempt_at = Outcome.REPEATED, finished_at + delay
        case Exhausted():
            outcome, next_attempt_at = Outcome.EXHAUSTED, None
    members = {
        "schema_version": SCHEMA_VERSION,
        "event": event,
        "endpoint_id": endpoint_id,
        "target_url": target_url,
        "attempt": attempt,
        "trigger": trigger,
        "state": AttemptState.SUCCEEDED if outcome is Outcome.DELIVERED else AttemptState.FAILED,
        "outcome": outcome,
        "created_at": started_at,
        "duration_ms": round(exchange.duration_ms, 3),
        "first_byte_ms": None if isinstance(exchange, NoResponse) else round(exchange.first_byte_ms, 3),
        "http_status_code": exchange.status if exchange.status in _STATUS_CODES else None,
        "failure": exchange.failure.value if isinstance(exchange, NoResponse) else None,
        "error": error_sentence(exchange),
        "next_attempt_at": next_attempt_at,
        "request_headers": dict(request_headers),
        "response_headers": exchange.headers,
        "response_body": body,
        "response_body_encoding": encoding,
        "response_truncated": not isinstance(exchange, NoResponse) and exchange.body_truncated,
    }
    return checked(Attempt, members)


def discarded_record(
    event: EventMeta,
    *,
    endpoint_id: int,
    target_url: str,
    attempt: int,
    trigger: Trigger,
    now: datetime,
    reason: str,
    outcome: Outcome = Outcome.DISCARDED,
) -> Attempt:
    """Describe an attempt that was due and not made, and why. ``outcome``: discarded, or expired."""
    return Attempt(
        event=event,
        endpoint_id=endpoint_id,
        target_url=target_url,
        attempt=attempt,
        trigger=trigger,
        state=AttemptState.FAILED,
        outcome=outcome,
        created_at=now,
        duration_ms=0.0,
        error=reason,
        request_headers={},
    )


def _as_text(body: bytes) -> tuple[str, str]:
    try:
        return body.decode(), "text"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"
