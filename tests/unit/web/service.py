"""The real application on a loopback port, over the real registry; only Kafka and ClickHouse are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from typing import cast

import aiohttp
from pydantic import SecretStr

from pipeline.broker.api import Partition, Position, Record
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.producer import Producer
from pipeline.core.circuit import CircuitLimits
from pipeline.core.retry import RetrySchedule
from pipeline.core.search import AttemptQuery, Cursor
from pipeline.delivery.courier import Courier
from pipeline.delivery.gate import Gate
from pipeline.delivery.watch import Watch
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from pipeline.ops.health import Health
from pipeline.sender.client import Sender
from pipeline.sender.guard import AddressGuard
from pipeline.sender.lanes import Lanes
from pipeline.store import story
from pipeline.store.analyst import Analyst, Answer
from pipeline.store.bodies import Bodies
from pipeline.store.endpoint_days import EndpointDay
from pipeline.store.erase import Eraser, Subject, Traces
from pipeline.store.errors import StoreRejectedError
from pipeline.store.figures import Bar, Facets, Histogram
from pipeline.store.notifications import Failed, Notification, Sendable
from pipeline.store.overview import MINUTES, Minute, Overview
from pipeline.store.replay import Place, Replayed, Replays, Wanted
from pipeline.store.reports import DeadLetterDetail, DeadLetterSummary, EndpointStats, Reports, RunRow
from pipeline.store.search import AttemptDetail, AttemptPage, AttemptRow, EndpointSummary, Page, Search
from pipeline.store.story import About
from pipeline.store.summary import Summary
from pipeline.web.api import Api
from pipeline.web.auth import ApiKeys
from pipeline.web.ended_sessions import EndedSessions
from pipeline.web.key_ring import KeyRing
from pipeline.web.runs import Runs
from pipeline.web.server import WebServer, make_app
from schemas.api_key import Access
from schemas.audit import AuditAction, AuditEntry
from schemas.codec import from_json
from schemas.endpoint import EndpointRecord
from schemas.health import HealthRecord
from schemas.topics import Topics
from tests.unit.delivery.courier_case import DELAYS, FakeSender
from tests.unit.fake_kafka import record

API_KEY = "correct-horse-battery-staple"
OTHER_KEY = "a-second-key-for-somebody-else"
TOPICS = Topics(DELAYS)
NOW = datetime(2026, 3, 2, 15, 4, 0, 512_000, UTC)
LATER = datetime(2026, 3, 2, 16, 0, 0, 0, UTC)


class Kafka(Producer):
    """Topics in memory: a record is acknowledged at once, and a table reads its own back a little later."""

    def __init__(self, registry: Registry, ring: KeyRing, ended: EndedSessions) -> None:
        self.registry = registry
        self.records: list[Record] = []
        self.is_down = False
        self.on_audit: Callable[[AuditEntry], None] = lambda _: None
        self._tables = {TOPICS.endpoints: registry.table, TOPICS.api_keys: ring.table, TOPICS.ended_sessions: ended.table}
        for table in self._tables.values():
            table._loop = asyncio.get_running_loop()
            table.is_caught_up = True

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        spread: bool = False,
        timestamp_ms: int | None = None,
        partition: int | None = None,
    ) -> asyncio.Future[Position]:
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[Position] = loop.create_future()
        if not self.is_down:
            record = Record(Partition(topic, 0), len(self.to(topic)), 0, key, value, list(headers), 0)
            self.records.append(record)
            acknowledged.set_result(Position(topic, 0, record.offset))
            if topic == TOPICS.audit:
                self.on_audit(from_json(value, AuditEntry))
            if table := self._tables.get(topic):
                loop.call_later(0.005, table._apply, [record], record.offset + 1, True)
        return acknowledged

    def to(self, topic: str) -> list[Record]:
        """What was written to a topic."""
        return [record for record in self.records if record.partition.topic == topic]

    def tell(self, entry: AuditEntry) -> None:
        """Another process puts something on record."""
        value = entry.model_dump_json().encode()
        self.records.append(Record(Partition(TOPICS.audit, 0), len(self.to(TOPICS.audit)), 0, b"", value, [], 0))

    @property
    def written(self) -> list[Record]:
        """What was written to the topic of the endpoints."""
        return self.to(TOPICS.endpoints)

    @property
    def audits(self) -> list[AuditEntry]:
        """Who did what."""
        return [from_json(record.value, AuditEntry) for record in self.to(TOPICS.audit)]

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
        self.begun, self.gone = asyncio.Event(), asyncio.Event()
        """Set when an answer is waited for, and when nobody waits for it any more."""
        self.since: datetime | None = None
        """When only the newest are counted or sorted: since when."""
        self.told: list[tuple[About, str]] = []
        self.record = story.Record((), (), is_complete=True)
        self.sent: dict[str, bytes] = {}
        self.counted: Summary | Exception = Summary(Facets(0, {}, {}, {}), Histogram(60, ()))
        self.pages: list[tuple[AttemptRow, ...]] = []
        """Where there are any, the answers to searches, one after the other."""

    async def _answer(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.gone.set()
            raise
        if self.error:
            raise self.error

    async def attempts(self, query: AttemptQuery) -> AttemptPage:
        await self._answer()
        self.queries.append(query)
        if self.pages:
            rows = self.pages.pop(0)
            cursor = Cursor(1_700_000_000_000, rows[-1].id).encode() if self.pages else None
            return AttemptPage(rows, len(rows), query.page, query.per_page, is_exact=False, next_cursor=cursor)
        since = None if query.in_time else self.since
        return AttemptPage(self.rows, len(self.rows), query.page, query.per_page, False, "next", since)

    async def facets(self, query: AttemptQuery) -> Facets:
        await self._answer()
        self.queries.append(query)
        return Facets(3, {"failed": 2, "succeeded": 1}, {"order_completed": 3}, {7: 3}, self.since)

    async def histogram(self, query: AttemptQuery, bars: int = 60) -> Histogram:
        await self._answer()
        self.queries.append(query)
        return Histogram(bars, (Bar(NOW, 3, 2), Bar(LATER, 0, 0)), self.since)

    async def summary(self, query: AttemptQuery, bars: int) -> Summary:
        await self._answer()
        if isinstance(self.counted, Exception):
            raise self.counted
        return self.counted

    async def record_of(self, about: About, value: str) -> story.Record:
        await self._answer()
        self.told.append((about, value))
        return self.record

    async def failed(self, query: AttemptQuery, most: int) -> Failed:
        await self._answer()
        self.queries.append(query)
        rows = [row for row in self.rows if row.state == "failed"]
        kept = {
            (row.event_id, row.endpoint_id): Notification(row.event_id, row.endpoint_id, row.id, row.created_at) for row in rows
        }
        return Failed(tuple(kept.values())[:most], len(rows), is_all=len(kept) <= most)

    async def sendable(self, batch: Sequence[Notification]) -> dict[int, Sendable]:
        await self._answer()
        delivered = {(row.event_id, row.endpoint_id) for row in self.rows if row.state == "succeeded"}
        rows = {row.id: row for row in self.rows}
        return {
            one.attempt_id: Sendable(
                rows[one.attempt_id], NOW, self.sent.get(one.event_id), (one.event_id, one.endpoint_id) in delivered
            )
            for one in batch
            if one.attempt_id in rows
        }

    async def bodies_of(self, attempts: Sequence[AttemptRow]) -> dict[int, Bodies]:
        await self._answer()
        return {one.id: Bodies(self.sent.get(one.event_id, b"").decode(), "=answered()", "text") for one in attempts}

    async def attempt(self, identifier: int) -> AttemptDetail | None:
        await self._answer()
        return self.details.get(identifier)

    async def endpoint_summaries(self, endpoint_ids: Sequence[int], last: int = 25) -> dict[int, EndpointSummary]:
        await self._answer()
        self.asked.append((list(endpoint_ids), last))
        found = {one: tuple(row for row in self.rows if row.endpoint_id == one) for one in endpoint_ids}
        return {one: EndpointSummary(len(rows), rows[:last]) for one, rows in found.items()}


class Reported(Reports):
    """Reports in memory."""

    def __init__(self, attempts: Attempts, kafka: Kafka) -> None:
        self.attempts = attempts
        self.kafka = kafka
        self.bodies: dict[str, bytes] = {}
        self.stats = EndpointStats((), 0, None, None)
        self.letters: list[DeadLetterDetail] = []
        self.days: dict[int, EndpointDay] = {}
        self.hour = Overview((Minute(NOW, 0, 0, 0),) * MINUTES, None, None, 0, None)
        self.asked: list[tuple[str | None, str | None]] = []

    async def endpoint_days(self, until: datetime) -> dict[int, EndpointDay]:
        await self.attempts._answer()
        return self.days

    async def overview(self, until: datetime) -> Overview:
        await self.attempts._answer()
        return self.hour

    async def event_body(self, event_id: str) -> bytes | None:
        await self.attempts._answer()
        return self.bodies.get(event_id)

    async def endpoint_stats(self, endpoint_id: int, until: datetime, *, buckets: int, width: timedelta) -> EndpointStats:
        await self.attempts._answer()
        return self.stats

    async def dead_letters(
        self, page: int, per_page: int, *, reason: str | None = None, topic: str | None = None
    ) -> Page[DeadLetterSummary]:
        await self.attempts._answer()
        self.asked.append((reason, topic))
        return Page(tuple(letter.summary for letter in self.letters), len(self.letters), page, per_page)

    async def dead_letter(self, identifier: int) -> DeadLetterDetail | None:
        await self.attempts._answer()
        return next((letter for letter in self.letters if letter.summary.id == identifier), None)

    async def resend_runs(self, run_id: str | None = None, limit: int = 20) -> tuple[RunRow, ...]:
        """As the recorder would have recorded the audit."""
        await self.attempts._answer()
        runs: dict[str, list[AuditEntry]] = {}
        for entry in self.kafka.audits:
            if entry.action is AuditAction.RESEND_RUN:
                runs.setdefault(entry.subject.removeprefix("resend run "), []).append(entry)
        return tuple(
            RunRow(
                one,
                entries[0].actor,
                entries[0].at,
                entries[-1].at,
                entries[-1].detail,
                is_cancelled=any('"cancelling"' in entry.detail for entry in entries),
            )
            for one, entries in list(runs.items())[-limit:]
            if run_id in (None, one)
        )


class Erasing(Eraser):
    """A store in memory that holds traces of whom it is asked for: as ``found`` says, one answer after the other; then nothing."""

    def __init__(self) -> None:
        self.asked: list[Subject] = []
        self.found: list[Traces] = []
        self.started: list[Traces] = []
        self.looks = 0
        self.error: Exception | None = None

    async def find(self, subject: Subject) -> Traces:
        if self.error:
            raise self.error
        self.asked.append(subject)
        return self.found.pop(0) if self.found else Traces()

    async def start(self, traces: Traces) -> None:
        self.started.append(traces)

    async def left(self, traces: Traces) -> int:
        self.looks = max(0, self.looks - 1)
        return self.looks


class Past(Replays):
    """Events of the past in memory; they are taken for what is asked for."""

    def __init__(self, attempts: Attempts) -> None:
        self.attempts = attempts
        self.events: list[Replayed] = []
        self.asked: list[Wanted] = []

    async def count(self, wanted: Wanted) -> tuple[int, int]:
        await self.attempts._answer()
        self.asked.append(wanted)
        return len(self.events), sum(len(one.endpoint_ids) for one in self.events)

    async def page(self, wanted: Wanted, after: Place | None, limit: int) -> list[Replayed]:
        await self.attempts._answer()
        self.asked.append(wanted)
        return [one for one in self.events if after is None or one.place > after][:limit]


class Asked(Analyst):
    """An analyst's ClickHouse in memory: it knows one answer."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    async def ask(self, statement: str) -> Answer:
        self.statements.append(statement)
        if not statement.startswith("SELECT"):
            raise StoreRejectedError("That is no SELECT.")
        return Answer((("n", "UInt64"), ("t", "String")), ((1, None),), 0.01)


@dataclass(slots=True)
class Service:
    """A running server, and what it works with. ``client`` sends the API key."""

    client: aiohttp.ClientSession
    anonymous: aiohttp.ClientSession
    url: str
    kafka: Kafka
    attempts: Attempts
    reports: Reported
    analyst: Asked
    eraser: Erasing
    past: Past
    sender: FakeSender
    ring: KeyRing
    health: Health
    vault: Vault
    known: HealthTable
    encryption_key: str
    runs: Runs
    ended: EndedSessions
    now: list[datetime] = field(default_factory=lambda: [NOW])

    def learn(self, *facts: HealthRecord) -> None:
        """A process that delivers has told something of an endpoint."""
        self.known.apply([record(fact.model_dump_json().encode(), key=fact.key) for fact in facts])

    def restart_with(self, keys: str) -> None:
        """As after a restart with other encryption keys: everything is read anew."""
        vars(self.vault).update(vars(Vault(keys)))
        registry = self.kafka.registry
        registry._versions.clear()
        registry._apply(self.kafka.written)

    async def key(self, role: Access) -> str:
        """Make an API key of a role."""
        _, key = await self.ring.create(self.kafka, name="Ada", role=role, created_by="a test", at=NOW)
        return key

    async def create(self, target_url: str = "http://127.0.0.1/hooks", **fields: object) -> int:
        """Register an endpoint and return its id."""
        endpoint = {"target_url": target_url, "events": ["order_completed"]} | fields
        async with self.client.post("/api/webhook/endpoints", json={"endpoint": endpoint}) as response:
            assert response.status == 201, await response.text()
            identifier = (await response.json())["id"]
            assert isinstance(identifier, int)
            return identifier


LOOPBACK = AddressGuard([IPv4Network("127.0.0.0/8")])


@asynccontextmanager
async def running_service(
    guard: AddressGuard = LOOPBACK,
    *,
    is_embedded: bool = True,
    search_timeout_seconds: float = 1.5,
    search: Search | None = None,
    reports: Reports | None = None,
) -> AsyncIterator[Service]:
    """Start the server; stop it at the end. With ``search`` and ``reports`` it reads a real store."""
    encryption_key = Vault.new_key()
    vault = Vault(encryption_key)
    known = HealthTable(MemoryBroker(), TOPICS.endpoint_health)
    registry, ring = Registry(MemoryBroker(), TOPICS.endpoints, vault, health=known), KeyRing(MemoryBroker(), TOPICS.api_keys)
    now = [NOW]
    ended = EndedSessions(MemoryBroker(), TOPICS.ended_sessions, lambda: now[0])
    kafka, attempts, health, sender = Kafka(registry, ring, ended), Attempts(), Health(), FakeSender()
    reported, analyst, eraser, past = Reported(attempts, kafka), Asked(), Erasing(), Past(attempts)
    watch = Watch(known, kafka, TOPICS, lambda: now[0], disable_after=timedelta(days=5))
    courier = Courier(
        sender=cast("Sender", sender),
        gate=Gate(Lanes(1, 0.01), CircuitLimits(), longest_wait=0.01, most_waiting=10, on_change=watch.circuit_changed),
        watch=watch,
        producer=kafka,
        topics=TOPICS,
        schedule=RetrySchedule(DELAYS),
        clock=lambda: now[0],
    )
    api = Api(
        registry=registry,
        producer=kafka,
        vault=vault,
        guard=guard,
        search=search or attempts,
        reports=reports or reported,
        courier=courier,
        topics=TOPICS,
        ring=ring,
        keys=ApiKeys([SecretStr(API_KEY), SecretStr(OTHER_KEY)], ring.opening),
        ended_sessions=ended,
        eraser=eraser,
        replays=past,
        analyst=analyst if is_embedded else None,
        clock=lambda: now[0],
        write_timeout_seconds=1.5,
        search_timeout_seconds=search_timeout_seconds,
        test_timeout_seconds=2.0,
        erasure_timeout_seconds=0.6,
        runs=Runs(per_second=10_000),
    )
    server = WebServer(make_app(health=health, api=api), "127.0.0.1", 0)
    url = await server.start()
    headers = {"Authorization": f"Bearer {API_KEY}"}
    try:
        async with aiohttp.ClientSession(url, headers=headers) as client, aiohttp.ClientSession(url) as anonymous:
            yield Service(
                client,
                anonymous,
                url,
                kafka,
                attempts,
                reported,
                analyst,
                eraser,
                past,
                sender,
                ring,
                health,
                vault,
                known,
                encryption_key,
                api.runs,
                ended,
                now,
            )
    finally:
        await server.stop()
