"""The real application on a loopback port, over the real registry; only Kafka and ClickHouse are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Network

import aiohttp
from pydantic import SecretStr

from pipeline.broker.producer import Position, Producer
from pipeline.broker.record import Partition, Record
from pipeline.core.search import AttemptQuery
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from pipeline.ops.health import Health
from pipeline.sender.guard import AddressGuard
from pipeline.store.figures import Bar, Facets, Histogram
from pipeline.store.search import AttemptDetail, AttemptPage, AttemptRow, EndpointSummary, Search
from pipeline.web.api import Api
from pipeline.web.auth import ApiKeys
from pipeline.web.server import WebServer, make_app
from schemas.codec import from_json
from schemas.endpoint import EndpointRecord

API_KEY = "correct-horse-battery-staple"
OTHER_KEY = "a-second-key-for-somebody-else"
NOW = datetime(2026, 3, 2, 15, 4, 0, 512_000, UTC)
LATER = datetime(2026, 3, 2, 16, 0, 0, 0, UTC)


class Kafka(Producer):
    """A topic in memory: a record is acknowledged at once, and read back by the registry a little later."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.written: list[Record] = []
        self.is_down = False
        registry.table._loop = asyncio.get_running_loop()
        registry.table.is_caught_up = True

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        spread: bool = False,
    ) -> asyncio.Future[Position]:
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[Position] = loop.create_future()
        if not self.is_down:
            record = Record(Partition(topic, 0), len(self.written), 0, key, value, list(headers), 0)
            self.written.append(record)
            acknowledged.set_result(Position(topic, 0, record.offset))
            loop.call_later(0.005, self.registry.table._apply, [record], record.offset + 1, True)
        return acknowledged

    @property
    def changes(self) -> list[EndpointRecord]:
        """The endpoint records that were written."""
        return [from_json(record.value, EndpointRecord) for record in self.written if record.key != b"id-claim"]


class Attempts(Search):
    """A store in memory: what the handlers asked for, and what they get."""

    def __init__(self) -> None:
        self.queries: list[AttemptQuery] = []
        self.rows: tuple[AttemptRow, ...] = ()
        self.details: dict[int, AttemptDetail] = {}
        self.asked: list[tuple[list[int], int]] = []
        self.error: Exception | None = None
        self.seconds = 0.0

    async def _answer(self) -> None:
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error

    async def attempts(self, query: AttemptQuery) -> AttemptPage:
        await self._answer()
        self.queries.append(query)
        return AttemptPage(self.rows, len(self.rows), query.page, query.per_page, is_exact=False, next_cursor="next")

    async def facets(self, query: AttemptQuery) -> Facets:
        await self._answer()
        self.queries.append(query)
        return Facets(3, {"failed": 2, "succeeded": 1}, {"order_completed": 3}, {7: 3})

    async def histogram(self, query: AttemptQuery, bars: int = 60) -> Histogram:
        await self._answer()
        self.queries.append(query)
        return Histogram(bars, (Bar(NOW, 3, 2), Bar(LATER, 0, 0)))

    async def attempt(self, identifier: int) -> AttemptDetail | None:
        await self._answer()
        return self.details.get(identifier)

    async def endpoint_summaries(self, endpoint_ids: Sequence[int], last: int = 25) -> dict[int, EndpointSummary]:
        await self._answer()
        self.asked.append((list(endpoint_ids), last))
        found = {one: tuple(row for row in self.rows if row.endpoint_id == one) for one in endpoint_ids}
        return {one: EndpointSummary(len(rows), rows[:last]) for one, rows in found.items()}


@dataclass(slots=True)
class Service:
    """A running server, and what it works with. ``client`` sends the API key."""

    client: aiohttp.ClientSession
    anonymous: aiohttp.ClientSession
    url: str
    kafka: Kafka
    attempts: Attempts
    health: Health
    vault: Vault
    now: list[datetime] = field(default_factory=lambda: [NOW])

    async def create(self, target_url: str = "http://127.0.0.1/hooks", **fields: object) -> int:
        """Register an endpoint and return its id."""
        endpoint = {"target_url": target_url, "events": ["order_completed"]} | fields
        async with self.client.post("/api/webhook/endpoints", json={"endpoint": endpoint}) as response:
            assert response.status == 201, await response.text()
            identifier = (await response.json())["id"]
            assert isinstance(identifier, int)
            return identifier


@asynccontextmanager
async def running_service() -> AsyncIterator[Service]:
    """Start the server; stop it at the end."""
    vault = Vault(Vault.new_key())
    registry = Registry({}, "webhooks.endpoints", vault)
    kafka, attempts, health, now = Kafka(registry), Attempts(), Health(), [NOW]
    api = Api(
        registry=registry,
        producer=kafka,
        vault=vault,
        guard=AddressGuard([IPv4Network("127.0.0.0/8")]),
        search=attempts,
        keys=ApiKeys([SecretStr(API_KEY), SecretStr(OTHER_KEY)]),
        clock=lambda: now[0],
        write_timeout_seconds=0.3,
        search_timeout_seconds=0.3,
    )
    server = WebServer(make_app(health=health, api=api), "127.0.0.1", 0)
    url = await server.start()
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with aiohttp.ClientSession(url, headers=headers) as client, aiohttp.ClientSession(url) as anonymous:
        yield Service(client, anonymous, url, kafka, attempts, health, vault, now)
    await server.stop()
