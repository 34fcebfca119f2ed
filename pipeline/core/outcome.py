"""What follows from an exchange: delivered, retried after a delay, or exhausted.

An endpoint acknowledges with 200, 201, 202 or 204 and nothing else (a fixed requirement of the product).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TypeAlias

from pipeline.core.exchange import Exchange, NoResponse, Response
from pipeline.core.retry import RetrySchedule, asked_for

ACKNOWLEDGED = frozenset({200, 201, 202, 204})


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint acknowledged."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The endpoint did not acknowledge; the next attempt is due after ``delay``."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The endpoint did not acknowledge the last attempt."""


Verdict: TypeAlias = Delivered | RetryLater | Exhausted


def judge(exchange: Exchange, attempt: int, schedule: RetrySchedule, now: datetime) -> Verdict:
    """Decide what follows from the ``attempt``-th (from 1) exchange."""
    if isinstance(exchange, Response) and exchange.status in ACKNOWLEDGED:
        return Delivered()
    delay = schedule.after(attempt, asked_for(exchange, now))
    return Exhausted() if delay is None else RetryLater(delay)


def error_sentence(exchange: Exchange) -> str | None:
    """Why it was not acknowledged, in a sentence for the integrator; None if it was."""
    if isinstance(exchange, NoResponse):
        return exchange.detail
    if exchange.status in ACKNOWLEDGED:
        return None
    returned = f"The endpoint returned {exchange.status}{_phrase(exchange.status)}"
    if 300 <= exchange.status < 400:
        return f"{returned}. Redirects are not followed: register the final URL."
    return f"{returned}; only 200, 201, 202 and 204 acknowledge a notification."


def _phrase(status: int) -> str:
    try:
        return f" ({HTTPStatus(status).phrase})"
    except ValueError:
        return ""
