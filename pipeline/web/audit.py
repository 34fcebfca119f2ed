"""Who looked at customers' data, and who sent what again, is on record before it happens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from pipeline.web.addresses import client_address
from pipeline.web.api import Api
from pipeline.web.auth import principal_of
from pipeline.web.errors import ApiError
from schemas.api_key import Access
from schemas.audit import AuditAction, AuditEntry


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asked for something, as the audit names them. It outlives the request."""

    actor: str
    role: Access
    remote_address: str


def asker(api: Api, request: web.Request) -> Asker:
    """Who sent a request."""
    who = principal_of(request)
    return Asker(who.actor, who.role, client_address(request, api.proxies))


async def audit(api: Api, request: web.Request, action: AuditAction, subject: str, detail: str = "") -> None:
    """Write an audit record; returns when Kafka has it. What cannot be put on record is not done.

    Raises:
        ApiError: 503, Kafka does not answer.
    """
    await put_on_record(api, asker(api, request), action, subject, detail)


async def put_on_record(api: Api, who: Asker, action: AuditAction, subject: str, detail: str = "") -> None:
    """The same, for what goes on when the request has been answered.

    Raises:
        ApiError: 503, Kafka does not answer.
    """
    entry = AuditEntry(
        at=api.clock(),
        actor=who.actor,
        role=who.role,
        action=action,
        subject=subject,
        detail=detail,
        remote_address=who.remote_address,
    )
    sent = api.producer.send(api.topics.audit, key=who.actor.encode(), value=entry.model_dump_json().encode(), spread=True)
    try:
        async with asyncio.timeout(api.write_timeout_seconds):
            await sent
    except TimeoutError:
        message = "Kafka does not answer, and what cannot be put on record is not done; please try again in a moment."
        raise ApiError(503, message) from None
