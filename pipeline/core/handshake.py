"""The handshake that protects a server from unwanted webhooks (CloudEvents, HTTP 1.1 Web Hooks, section 4). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pipeline.core.exchange import Exchange, NoResponse, Request

REQUEST_ORIGIN: Final = "webhook-request-origin"
ALLOWED_ORIGIN: Final = "webhook-allowed-origin"
ALLOWED_RATE: Final = "webhook-allowed-rate"
ORIGIN: Final = "origin"
_MAX_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """``problem`` is a sentence for the endpoint's owner, empty if the endpoint is verified. ``max_per_second``: the rate that it
    allows, if it states one. ``is_ours``: the problem is on our side, and says nothing about the endpoint.
    """

    problem: str = ""
    max_per_second: int | None = None
    is_ours: bool = False


def handshake_request(url: str, origin: str, template: Request | None = None) -> Request:
    """The request. It carries no credentials; ``template`` provides the client certificate, which the connection may need."""
    return Request(url, {REQUEST_ORIGIN: origin}, b"", None if template is None else template.identity, method="OPTIONS")


def judge_handshake(exchange: Exchange, origin: str) -> VerificationResult:
    """What the answer to a handshake means."""
    if isinstance(exchange, NoResponse):
        return VerificationResult(f"There was no response to OPTIONS: {exchange.detail}")
    if not 200 <= exchange.status <= 299:
        return VerificationResult(
            f"It returned {exchange.status} for OPTIONS. A 2xx status with the WebHook-Allowed-Origin header is needed."
        )
    allowed = [value.strip() for name, value in exchange.headers if name.lower() == ALLOWED_ORIGIN]
    if not allowed:
        return VerificationResult("Its response to OPTIONS has no WebHook-Allowed-Origin header.")
    if not any(value == "*" or value.lower() == origin.lower() for value in allowed):
        return VerificationResult(f"It allows the origin {allowed[0][:_MAX_SHOWN]!r}, but this sender is {origin!r}.")
    rate = next((value.strip() for name, value in exchange.headers if name.lower() == ALLOWED_RATE), "*")
    return _judge_rate(rate)


def _judge_rate(rate: str) -> VerificationResult:
    """``rate``: requests per minute, or ``*``. Our limits are per second, so a rate below 60 cannot be kept."""
    if rate == "*":
        return VerificationResult()
    if not (rate.isascii() and rate.isdigit() and len(rate) <= 12):
        return VerificationResult(
            f"Its header WebHook-Allowed-Rate is {rate[:_MAX_SHOWN]!r}: it must be a whole number of requests per minute, or *."
        )
    if (per_second := int(rate) // 60) < 1:
        return VerificationResult(
            f"It allows {int(rate)} requests per minute. At least 60 are needed, because rates are limited per second."
        )
    return VerificationResult(max_per_second=per_second)
