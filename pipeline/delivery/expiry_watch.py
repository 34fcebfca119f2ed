"""Warns owners before a rotated signing secret or a client certificate expires.

Each retry process looks from time to time. One that sends a warning writes that as a fact, so that no process sends it again.
"""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from typing import Final

from pipeline.broker.errors import PublishError
from pipeline.broker.producer import Producer
from pipeline.delivery.owner_notices import OwnerNotices
from pipeline.endpoints.endpoint import Endpoint
from pipeline.endpoints.registry import Registry
from pipeline.ops.clock import Clock
from pipeline.ops.logs import logger
from schemas.codec import to_json
from schemas.health import HealthFact, HealthRecord

log = logger(__name__)

TOLD_BEFORE: Final = timedelta(hours=4)
"""How long before a secret expires its owner is told; immediately if the rotation leaves less time than that."""
CERTIFICATE_DAYS: Final = (1, 7, 30)
"""How many days before a client certificate expires its owner is told. Nobody is told of a certificate that has already expired."""
LOOK_SECONDS: Final = 60.0


class ExpiryWatch:
    """One per retry process. ``start`` it after the endpoints and their health were read."""

    def __init__(self, registry: Registry, producer: Producer, health_topic: str, notices: OwnerNotices, clock: Clock) -> None:
        self._registry = registry
        self._producer = producer
        self._topic = health_topic
        self._notices = notices
        self._clock = clock
        self._told: set[tuple[int, datetime]] = set()
        """Secrets whose owners this process has told, for the time until the fact has been read back."""
        self._told_of_certificates: set[tuple[int, datetime, int]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from time to time."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """Tell the owners of all secrets and client certificates that expire soon, unless they were told already."""
        now = self._clock()
        for endpoint in self._registry.all():
            await self._look_at_certificate(endpoint, now)
            ends = [one.expires_at for one in endpoint.record.secrets if one.expires_at is not None and one.expires_at > now]
            if ends and (first := min(ends)) - now <= TOLD_BEFORE and not self._is_told(endpoint, first):
                await self._tell(endpoint, first, now)

    async def _run(self) -> None:
        while True:
            # Not all processes at the same moment: the second one reads what the first has written.
            await asyncio.sleep(LOOK_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - nothing secret depends on it
            try:
                await self.look()
            except PublishError as error:
                log.warning("an owner could not be told that something expires; it is tried again", error=str(error))
            except Exception:  # an unexpected error must not silently end the watch
                log.exception("looking for secrets and certificates that expire failed; it is tried again")

    async def _look_at_certificate(self, endpoint: Endpoint, now: datetime) -> None:
        stored = endpoint.record.client_certificate
        left = stored.expires_at - now if stored is not None else timedelta()
        days = next((days for days in CERTIFICATE_DAYS if timedelta() < left <= timedelta(days=days)), None)
        if stored is None or days is None:
            return
        known = self._registry.health.last(endpoint.id, HealthFact.CERTIFICATE) if self._registry.health is not None else None
        is_known = known is not None and known.until == stored.expires_at and str(days) in known.told
        if is_known or (endpoint.id, stored.expires_at, days) in self._told_of_certificates:
            return
        await self._notices.certificate_expiring(endpoint, stored.expires_at, days)
        fact = HealthRecord(
            endpoint_id=endpoint.id,
            endpoint_version=endpoint.record.version,
            fact=HealthFact.CERTIFICATE,
            at=now,
            until=stored.expires_at,
            told=(str(days),),
        )
        await self._producer.send(self._topic, key=fact.key, value=to_json(fact))
        self._told_of_certificates.add((endpoint.id, stored.expires_at, days))
        log.info("the owner of an endpoint was told that its client certificate expires", endpoint_id=endpoint.id, days=days)

    def _is_told(self, endpoint: Endpoint, expires_at: datetime) -> bool:
        health = self._registry.health
        # For any version of the endpoint: an activation changes no secret.
        known = health.last(endpoint.id, HealthFact.SECRET) if health is not None else None
        is_known = known is not None and known.until is not None and known.until >= expires_at
        return is_known or (endpoint.id, expires_at) in self._told

    async def _tell(self, endpoint: Endpoint, expires_at: datetime, now: datetime) -> None:
        await self._notices.secret_expiring(endpoint, expires_at)
        fact = HealthRecord(
            endpoint_id=endpoint.id,
            endpoint_version=endpoint.record.version,
            fact=HealthFact.SECRET,
            at=now,
            until=expires_at,
        )
        await self._producer.send(self._topic, key=fact.key, value=to_json(fact))
        self._told.add((endpoint.id, expires_at))
        log.info("the owner of an endpoint was told that a signing secret expires", endpoint_id=endpoint.id)
