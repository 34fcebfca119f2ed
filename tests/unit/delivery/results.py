"""Results of attempts, for tests of what follows from them."""

from __future__ import annotations

from datetime import datetime

from pipeline.core.exchange import Exchange, Request
from pipeline.core.outcome import Verdict
from pipeline.delivery.delivery import AttemptResult, Delivery, SignedRequest
from pipeline.endpoints.endpoint import open_endpoint
from pipeline.endpoints.vault import Vault
from schemas.delivery import Trigger
from tests.unit.sample_events import META, NOW, endpoint_record

_ENDPOINT = open_endpoint(endpoint_record(7), Vault(Vault.new_key()))


def result_of(
    exchange: Exchange, verdict: Verdict, *, attempt: int = 1, trigger: Trigger = Trigger.EVENT, finished_at: datetime = NOW
) -> AttemptResult:
    """Return the result of an attempt at endpoint 7 with this outcome."""
    delivery = Delivery(META, b"{}", _ENDPOINT, attempt, trigger)
    sent = SignedRequest(Request(_ENDPOINT.target_url, {}, b"{}"), {"webhook-id": META.id})
    return AttemptResult(delivery, sent, exchange, verdict, finished_at, finished_at)
