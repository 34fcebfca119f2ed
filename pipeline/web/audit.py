"""The audit log: views of customer data, resends and other actions are recorded before they happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from pipeline.broker.producer import Producer
from pipeline.ops.clock import Clock, utc_now
from pipeline.web.auth import principal_of
from pipeline.web.client_address import Networks, client_address
from pipeline.web.errors import ApiError
from pipeline.web.kafka_writes import confirmed_within
from schemas.api_key import Access
from schemas.audit import AuditAction, AuditEntry
from schemas.codec import to_json

_UNRECORDED: Final = (
    "Kafka is not responding, so the action could not be recorded and was not carried out. Try again in a moment."
)


@dataclass(frozen=True, slots=True)
class Actor:
    """The identity behind a request, for the audit log. It outlives the request."""

    actor: str
    role: Access
    remote_address: str


@dataclass(frozen=True, slots=True)
class AuditLog:
    """Writes to the audit topic."""

    producer: Producer
    topic: str
    clock: Clock = utc_now
    proxies: Networks = ()
    """Reverse proxies whose X-Forwarded-For is trusted."""
    person: Callable[[str], str] = str
    """Returns an actor's name."""
    write_timeout_seconds: float = 10.0

    def actor(self, request: web.Request) -> Actor:
        who = principal_of(request)
        return Actor(who.actor, who.role, client_address(request, self.proxies))

    async def put(self, asked: web.Request | Actor, action: AuditAction, subject: str, detail: str = "") -> None:
        """Write an audit record for a request or an actor. Returns when Kafka has acknowledged it.

        An action that cannot be recorded must not be carried out.

        Raises:
            ApiError: 503, Kafka does not answer.
        """
        if self.producer.is_stuck(self.topic):  # one caller has waited for Kafka already; the next need not
            raise ApiError(503, _UNRECORDED)
        who = asked if isinstance(asked, Actor) else self.actor(asked)
        entry = AuditEntry(
            at=self.clock(),
            actor=who.actor,
            role=who.role,
            action=action,
            subject=subject,
            detail=detail,
            remote_address=who.remote_address,
            actor_name=self.person(who.actor),
        )
        sent = self.producer.send(self.topic, key=who.actor.encode(), value=to_json(entry), spread=True)
        async with confirmed_within(self.write_timeout_seconds, _UNRECORDED):
            await sent
