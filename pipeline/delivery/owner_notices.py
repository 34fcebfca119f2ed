"""The operational events about an endpoint: creates them and writes them to Kafka.

An event's id is derived from what happened: an occurrence has the same id however often, and by whichever process, it is reported.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from msgspec import Raw

from pipeline.broker.api import Position
from pipeline.broker.producer import Producer
from pipeline.core.failing_stages import FAILING
from pipeline.endpoints.endpoint import Endpoint
from pipeline.ops import metrics
from pipeline.ops.clock import Clock
from schemas.codec import to_json
from schemas.health import HealthRecord
from schemas.operational import (
    ENDPOINT_CERTIFICATE_EXPIRING,
    ENDPOINT_FAILING,
    ENDPOINT_FILTER_FAILING,
    ENDPOINT_RECOVERED,
    ENDPOINT_SECRET_EXPIRING,
    ENDPOINT_WILL_BE_DISABLED,
    OPERATIONAL_NAMES,
    EndpointNotice,
    OperationalEvent,
    OperationalName,
)


class OwnerNotices:
    """One per process that delivers."""

    def __init__(self, producer: Producer, topic: str, clock: Clock, *, disable_after: timedelta) -> None:
        self._producer = producer
        self._topic = topic
        self._clock = clock
        self._disable_after = disable_after
        for name in OPERATIONAL_NAMES:  # start at 0: Prometheus does not see an increase from nothing to 1
            metrics.OPERATIONAL_EVENTS.labels(name)

    async def stage(self, endpoint: Endpoint, since: datetime, stage: str) -> None:
        """The endpoint has failed for long enough to tell its owner. Returns when Kafka has the event."""
        end = since + self._disable_after
        ending = f"It will be disabled at {end:%Y-%m-%d %H:%M} UTC if nothing succeeds by then."
        detail = f"The endpoint has been failing since {since:%Y-%m-%d %H:%M} UTC, without any success. {ending}"
        if stage == FAILING:
            data = self._data(endpoint, detail, failing_since=since, will_be_disabled_at=end)
            await self._send(endpoint, ENDPOINT_FAILING, _moment(since), data)
            return
        data = self._data(endpoint, detail, failing_since=since, will_be_disabled_at=end, percent=int(stage))
        await self._send(endpoint, ENDPOINT_WILL_BE_DISABLED, f"{stage}_{_moment(since)}", data)

    async def recovered(self, endpoint: Endpoint, since: datetime) -> None:
        """The endpoint has acknowledged again, after its owner was told that it fails."""
        detail = f"The endpoint is acknowledging again. It had been failing since {since:%Y-%m-%d %H:%M} UTC."
        data = self._data(endpoint, detail, failing_since=since, recovered_at=self._clock())
        await self._send(endpoint, ENDPOINT_RECOVERED, _moment(since), data)

    async def secret_expiring(self, endpoint: Endpoint, expires_at: datetime) -> None:
        """A rotated secret expires soon."""
        detail = (
            f"The previous signing secret is used until {expires_at:%Y-%m-%d %H:%M} UTC. After that, requests are signed with the "
            "new secret only: the receiver must know it by then."
        )
        data = self._data(endpoint, detail, expires_at=expires_at)
        await self._send(endpoint, ENDPOINT_SECRET_EXPIRING, _moment(expires_at), data)

    async def certificate_expiring(self, endpoint: Endpoint, expires_at: datetime, days: int) -> None:
        """The endpoint's client certificate expires within this many days."""
        within = "one day" if days == 1 else f"{days} days"
        detail = (
            f"The client certificate expires at {expires_at:%Y-%m-%d %H:%M} UTC, within {within}. After that, a receiver that "
            "requires it refuses the requests: give the endpoint a new certificate."
        )
        data = self._data(endpoint, detail, expires_at=expires_at, days=days)
        await self._send(endpoint, ENDPOINT_CERTIFICATE_EXPIRING, f"{days}_{_moment(expires_at)}", data)

    async def filter_failing(self, endpoint: Endpoint, fact: HealthRecord, day: int) -> None:
        """A filter keeps failing. ``fact`` describes the failures; ``day``: for how many days it has failed."""
        since = fact.since or fact.at
        detail = (
            f"A filter has failed on events since {since:%Y-%m-%d %H:%M} UTC, and nothing is sent for them. {fact.detail} Change "
            "the filter, and check which of these events it should have accepted."
        )
        data = self._data(endpoint, detail, failing_since=since, expression=fact.expression, event_id=fact.event_id)
        await self._send(endpoint, ENDPOINT_FILTER_FAILING, f"{day}_{_moment(since)}", data)

    def _data(self, endpoint: Endpoint, detail: str, **more: Any) -> EndpointNotice:
        description = endpoint.record.description
        return EndpointNotice(id=endpoint.id, target_url=endpoint.target_url, description=description, detail=detail, **more)

    async def _send(self, endpoint: Endpoint, name: OperationalName, occurrence: str, data: EndpointNotice) -> Position:
        event = OperationalEvent(
            id=f"{name.replace('.', '-').replace('_', '-')}_{endpoint.id}_{occurrence}",
            event_name=name,
            occurred_at=self._clock(),
            data=Raw(to_json(data)),
        )
        written = await self._producer.send(self._topic, key=str(endpoint.id).encode(), value=to_json(event))
        metrics.OPERATIONAL_EVENTS.labels(name).inc()
        return written


def _moment(time: datetime) -> str:
    return str(round(time.timestamp() * 1000))
