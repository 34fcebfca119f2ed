"""Warns owners before a rotated signing secret or a client certificate expires.

Every retry process checks periodically. The one that sends a warning records it, so that no process sends it again.
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

NOTICE_PERIOD: Final = timedelta(hours=4)
"""How long before a secret expires its owner is told; immediately if the rotation leaves less time than that."""
CERTIFICATE_DAYS: Final = (1, 7, 30)
"""How many days before a client certificate expires its owner is told. Nobody is told of a certificate that has already expired."""
CHECK_SECONDS: Final = 60.0


class ExpiryMonitor:
    """One per retry process. ``start`` it after the endpoints and their health were read."""

    def __init__(self, registry: Registry, producer: Producer, health_topic: str, notices: OwnerNotices, clock: Clock) -> None:
        self._registry = registry
        self._producer = producer
        self._topic = health_topic
        self._notices = notices
        self._clock = clock
        self._notified: set[tuple[int, datetime, int | None]] = set()
        """The arguments of `_notify` so far, for the time until the fact has been read back."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from time to time."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def check(self) -> None:
        """Tell the owners of all secrets and client certificates that expire soon, unless they were told already."""
        now = self._clock()
        failed: dict[int, Exception] = {}
        for endpoint in self._registry.all():
            for check in (self._check_certificate, self._check_secrets):
                try:
                    await check(endpoint, now)
                except Exception as error:  # noqa: BLE001 - the owners of the other endpoints must be told
                    failed[endpoint.id] = error
        if failed:  # one line for all: Kafka may refuse every record
            endpoint_id, first = next(iter(failed.items()))
            log.error(
                "owners could not be told that something expires; it is tried again",
                endpoints=len(failed),
                endpoint_id=endpoint_id,
                error=str(first),
                exc_info=None if isinstance(first, PublishError) else first,
            )

    async def _run(self) -> None:
        while True:
            # Not all processes at the same moment: the second one reads what the first has written.
            await asyncio.sleep(CHECK_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - nothing secret depends on it
            try:
                await self.check()
            except Exception:  # an unexpected error must not silently end the watch
                log.exception("looking for secrets and certificates that expire failed; it is tried again")

    async def _check_certificate(self, endpoint: Endpoint, now: datetime) -> None:
        if (stored := endpoint.record.client_certificate) is None:
            return
        left = stored.expires_at - now
        days = next((days for days in CERTIFICATE_DAYS if timedelta() < left <= timedelta(days=days)), None)
        known = self._last(endpoint, HealthFact.CERTIFICATE)
        if days is None or (known is not None and known.until == stored.expires_at and str(days) in known.told):
            return
        await self._notify(endpoint, stored.expires_at, days)

    async def _check_secrets(self, endpoint: Endpoint, now: datetime) -> None:
        ends = [one.expires_at for one in endpoint.record.secrets if one.expires_at is not None and one.expires_at > now]
        if not ends or (first := min(ends)) - now > NOTICE_PERIOD:
            return
        known = self._last(endpoint, HealthFact.SECRET)
        if known is None or known.until != first:  # a second rotation may leave less time than the first
            await self._notify(endpoint, first)

    def _last(self, endpoint: Endpoint, fact: HealthFact) -> HealthRecord | None:
        """What was last told, for any version of the endpoint: an activation changes no secret and no certificate."""
        return self._registry.health.last(endpoint.id, fact) if self._registry.health is not None else None

    async def _notify(self, endpoint: Endpoint, expires_at: datetime, days: int | None = None) -> None:
        """Tell the owner about a client certificate that expires within ``days``; about a secret if that is None."""
        key = (endpoint.id, expires_at, days)
        if key in self._notified:
            return
        if days is None:
            await self._notices.secret_expiring(endpoint, expires_at)
        else:
            await self._notices.certificate_expiring(endpoint, expires_at, days)
        fact = HealthRecord(
            endpoint_id=endpoint.id,
            endpoint_version=endpoint.record.version,
            fact=HealthFact.SECRET if days is None else HealthFact.CERTIFICATE,
            at=self._clock(),
            until=expires_at,
            told=() if days is None else (str(days),),
        )
        await self._producer.send(self._topic, key=fact.key, value=to_json(fact))
        self._notified.add(key)
        log.info("an owner was told that something expires", endpoint_id=endpoint.id, what=fact.fact.value, days=days)
