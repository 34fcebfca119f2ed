"""The whole pipeline with a history: realistic events, and endpoints that are healthy, flaky, down, gone and paused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from consumers.cli.traffic import simulate
from pipeline.devtools.receiver import Behaviour, Receiver
from schemas.event import EventType
from schemas.topics import parse_delay
from tests.integration.conftest import Pipeline, run_pipeline
from tests.waiting import until

EVENTS: Final = 160
_ORDERS: Final = (EventType.ORDER_COMPLETED, EventType.ORDER_CANCELLED)
_SHIPMENTS: Final = tuple(event for event in EventType if event.value.startswith("shipment"))
_STOCK: Final = tuple(event for event in EventType if event.value.startswith("stock"))


@dataclass(slots=True)
class Shop:
    """The running pipeline, and its receivers and endpoint ids by name."""

    pipeline: Pipeline
    receivers: dict[str, Receiver] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Return the URL of the dashboard."""
        return self.pipeline.running.url

    async def endpoint(self, name: str, behaviour: Behaviour, events: tuple[EventType, ...], description: str) -> None:
        """Start a receiver, and register it."""
        receiver = Receiver(name, behaviour=behaviour)
        self.pipeline.receivers.append(receiver)
        created = await self.pipeline.register(f"{await receiver.start()}{name}", events, description=description)
        receiver.secret = created["secret"]
        self.receivers[name], self.ids[name] = receiver, created["id"]

    def page(self, name: str) -> str:
        """Return the page of an endpoint."""
        return f"/webhooks/endpoints/{self.ids[name]}"


@asynccontextmanager
async def open_shop(bootstrap_servers: str, topic_prefix: str, *, apache: bool) -> AsyncIterator[Shop]:
    """Run the pipeline until its history is recorded."""
    # The last retries are far away, so that some deliveries wait.
    delays = tuple(map(parse_delay, ("100ms", "200ms", "1h", "2h", "6h")))
    async with run_pipeline(bootstrap_servers, topic_prefix, apache=apache, retry_delays=delays, circuit_failures=5) as pipeline:
        shop = Shop(pipeline)
        await shop.endpoint("erp", Behaviour(), tuple(EventType), "ERP")
        await shop.endpoint("mailer", Behaviour(fail_rate=0.08, status=503), (*_ORDERS, *_SHIPMENTS), "Customer mails")
        await shop.endpoint("warehouse", Behaviour(fail_rate=1.0, status=500), _STOCK, "Warehouse")
        await shop.endpoint("old-shop", Behaviour(fail_rate=1.0, status=410), _ORDERS, "Old shop")
        await shop.endpoint("search-index", Behaviour(), _STOCK, "Search index")
        paused = {"endpoint": {"active": False}}
        assert (await pipeline.api.patch(f"endpoints/{shop.ids['search-index']}", json=paused)).status_code == 200

        await simulate(pipeline.settings, rate=400, seed=7, count=EVENTS)

        erp = shop.receivers["erp"]
        await until(lambda: erp.counts.acknowledged >= EVENTS, seconds=300)
        await until(lambda: _recorded(pipeline, shop.ids["erp"]), seconds=300)
        yield shop


async def _recorded(pipeline: Pipeline, endpoint_id: int) -> bool:
    response = await pipeline.api.get("attempts/facets", params={"q[endpoint_id_eq]": str(endpoint_id)})
    count: int = response.json()["total_count"]
    return count >= EVENTS
