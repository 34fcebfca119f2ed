"""Who looked at customers' data, and who sent what again, is on record before it happens."""

from __future__ import annotations

import asyncio

from aiohttp import web

from pipeline.web.addresses import client_address
from pipeline.web.api import Api
from pipeline.web.auth import principal_of
from pipeline.web.errors import ApiError
from schemas.audit import AuditAction, AuditEntry


async def audit(api: Api, request: web.Request, action: AuditAction, subject: str, detail: str = "") -> None:
    """Write an audit record; returns when Kafka has it. What cannot be put on record is not done.

    Raises:
        ApiError: 503, Kafka does not answer.
    """
    who = principal_of(request)
    entry = AuditEntry(
        at=api.clock(),
        actor=who.actor,
        role=who.role,
        action=action,
        subject=subject,
        detail=detail,
        remote_address=client_address(request, api.proxies),
    )
    sent = api.producer.send(api.topics.audit, key=who.actor.encode(), value=entry.model_dump_json().encode(), spread=True)
    try:
        async with asyncio.timeout(api.write_timeout_seconds):
            await sent
    except TimeoutError:
        message = "Kafka does not answer, and what cannot be put on record is not done; please try again in a moment."
        raise ApiError(503, message) from None
