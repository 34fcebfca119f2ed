"""Asks an endpoint whether it wants webhooks, before any are delivered. It uses the same sender, and so the same address guard."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

import msgspec

from pipeline.broker.producer import Producer
from pipeline.core.exchange import Request
from pipeline.core.handshake import VerificationResult, handshake_request, judge_handshake
from pipeline.core.local_faults import NotSent, NotSentError
from pipeline.delivery.delivery import Delivery
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.delivery.unpublished_event import UnpublishedEvent, dispatch_unpublished
from pipeline.endpoints.endpoint import Endpoint
from schemas.attempt import Outcome
from schemas.delivery import Trigger
from schemas.event import EventMeta
from schemas.event_codec import webhook_members
from schemas.verification import VERIFY_EVENT, Verification

_SOURCE = "verification"
"""Takes the place of the source topic in the row of an event that no producer published."""


@dataclass(frozen=True, kw_only=True)
class EndpointVerifier:
    """One per API process. ``origin`` is this sender's name in a handshake. A verification takes at most ``seconds`` in total."""

    deliveries: DeliveryService
    producer: Producer
    dispatches: str
    origin: str
    seconds: float = 30.0

    async def verify(self, endpoint: Endpoint) -> VerificationResult:
        """Ask the endpoint once, and judge the answer. Problems of the endpoint and the network are part of the result.

        Raises:
            PublishError: Kafka does not accept the event or the attempt.
        """
        if endpoint.problem is not None:
            return VerificationResult(f"Nothing can be sent to it: {endpoint.problem}")
        try:
            async with asyncio.timeout(self.seconds):
                if endpoint.record.verification == Verification.CLOUDEVENTS_HANDSHAKE:
                    return await self._handshake(endpoint)
                return await self._send_event(endpoint)
        except TimeoutError:
            return VerificationResult(f"The verification did not finish within {self.seconds:g} s. Try again.", is_ours=True)
        except NotSentError as error:
            return VerificationResult(f"Nothing was sent because of a fault on our side. Try again. ({error})", is_ours=True)

    async def _handshake(self, endpoint: Endpoint) -> VerificationResult:
        template = Request(endpoint.target_url, {}, b"", endpoint.identity)
        sent = await self.deliveries.sender.post(handshake_request(endpoint.target_url, self.origin, template))
        if isinstance(sent, NotSent):
            if sent.otherwise is None:
                raise NotSentError(sent.detail)
            sent = sent.otherwise
        return judge_handshake(endpoint.redactor.redact(sent), self.origin)

    async def _send_event(self, endpoint: Endpoint) -> VerificationResult:
        """The event is recorded with its body, as a test is."""
        now = self.deliveries.clock()
        event = EventMeta(id=f"verify_{secrets.token_hex(12)}", event_name=VERIFY_EVENT, created_at=now, received_at=now)
        data = {"endpoint_id": endpoint.id, "target_url": endpoint.target_url}
        body = msgspec.json.encode(webhook_members(event) | {"data": data})
        dispatched = dispatch_unpublished(
            self.producer, self.dispatches, UnpublishedEvent(event, body, endpoint.id, _SOURCE), now
        )
        attempt, _ = await self.deliveries.test(Delivery(event, body, endpoint, trigger=Trigger.TEST))
        await dispatched
        if attempt.outcome is Outcome.DELIVERED:
            return VerificationResult()
        return VerificationResult(f"It did not acknowledge {VERIFY_EVENT}: {attempt.error or attempt.http_status_code}")
