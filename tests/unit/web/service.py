"""The real application on a loopback port, with the real registry. Only Kafka and ClickHouse are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from typing import cast

import aiohttp
from pydantic import SecretStr

from pipeline.broker.api import Partition, Position, Record
from pipeline.broker.memory.broker import MemoryBroker
from pipeline.broker.producer import Producer
from pipeline.core.circuit import CircuitLimits
from pipeline.core.retry_policies import RetryPolicies
from pipeline.core.search import MAX_PER_PAGE, AttemptQuery, Cursor
from pipeline.delivery.admission import Admission, AdmissionLimits
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.delivery.endpoint_health_monitor import EndpointHealthMonitor, FailingLimits
from pipeline.delivery.publisher import DeliveryPublisher
from pipeline.delivery.verification import EndpointVerifier
from pipeline.endpoints.event_type_catalogue import EventTypeCatalogue
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.source_topics import SourceTopics
from pipeline.endpoints.vault import Vault
from pipeline.ops.health import Health
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.client import Sender
from pipeline.sender.concurrency_limiter import ConcurrencyLimiter
from pipeline.store.erase import Eraser, PersonData, Subject
from pipeline.store.errors import StoreRejectedError
from pipeline.store.reports import timeline
from pipeline.store.reports.endpoint_days import EndpointDay
from pipeline.store.reports.history import EventHistory, PastEvent
from pipeline.store.reports.notification_history import (
    FailedNotification,
    FailedNotifications,
    NotificationHistory,
    PastNotification,
    ReplayPosition,
    ReplayRequest,
)
from pipeline.store.reports.pipeline_overview import MINUTES, OverviewMinute, PipelineOverview
from pipeline.store.reports.recent import DeadLetterDetail, DeadLetterSummary, EndpointStats, ReplayRow, Reports, RunRow
from pipeline.store.reports.repairs import LETTER, PUBLISHED, DoneBy, RepairedBy
from pipeline.store.reports.timeline import TimelineSubject
from pipeline.store.search.aggregates import AggregateBar, Facets, Histogram
from pipeline.store.search.bodies import Bodies
from pipeline.store.search.queries import AttemptDetail, AttemptPage, AttemptRow, EndpointSummary, ResultPage, Search
from pipeline.store.search.summary import SearchSummary
from pipeline.store.sql_console import SqlConsole, SqlResult
from pipeline.web.attempt_streams import AttemptStreams
from pipeline.web.audit import AuditLog
from pipeline.web.auth import ApiKeys
from pipeline.web.key_ring import KeyRing
from pipeline.web.resend_runs import ResendRuns
from pipeline.web.resending import Resender
from pipeline.web.revoked_sessions import EndedSessions
from pipeline.web.server import WebServer, make_app
from pipeline.web.services import Api
from schemas.api_key import Access
from schemas.audit import AuditAction, AuditEntry
from schemas.codec import from_json, to_json
from schemas.delivery import Trigger
from schemas.endpoint import EndpointRecord
from schemas.event import EventMeta
from schemas.event_reader import EventReader
from schemas.event_types import BUILT_IN
from schemas.health import HealthRecord
from schemas.topics import MAX_EVENT_BYTES_LIMIT, Topics
from tests.unit.delivery.delivery_case import DELAYS, FakeSender
from tests.unit.fake_kafka import record

API_KEY = "correct-horse-battery-staple"
OTHER_KEY = "a-second-key-for-somebody-else"
TOPICS = Topics(DELAYS)
NOW = datetime(2026, 3, 2, 15, 4, 0, 512_000, UTC)
LATER = datetime(2026, 3, 2, 16, 0, 0, 0, UTC)
WRITE_TIMEOUT_S = 1.5
"""For a busy machine: Kafka confirms everything in time."""


class Kafka(Producer):
    """Topics in memory: records are acknowledged at once, and a table reads its own records back a little later."""

    def __init__(self, registry: Registry, ring: KeyRing, ended: EndedSessions, catalogue: EventTypeCatalogue) -> None:
        self.registry = registry
        self.records: list[Record] = []
        self.is_down = False
        """Whether nothing is acknowledged. Waiting for an acknowledgement then times out at once."""
        self.stuck: set[str] = set()
        """Topics whose records have long been unacknowledged."""
        self.errors: dict[str, Exception] = {}
        """Topics whose records are refused."""
        self.on_audit: Callable[[AuditEntry], None] = lambda _: None
        self._tables = {TOPICS.endpoints: registry.table, TOPICS.api_keys: ring.table, TOPICS.ended_sessions: ended.table}
        self._tables[TOPICS.event_types] = catalogue.table
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
        partition: int | None = None,
    ) -> asyncio.Future[Position]:
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[Position] = loop.create_future()
        if error := self.errors.get(topic):
            acknowledged.set_exception(error)
        elif self.is_down:
            acknowledged.set_exception(TimeoutError())
        else:
            record = Record(Partition(topic, 0), len(self.to(topic)), 0, key, value, list(headers), 0)
            self.records.append(record)
            acknowledged.set_result(Position(topic, 0, record.offset))
            if topic == TOPICS.audit:
                self.on_audit(from_json(value, AuditEntry))
            if table := self._tables.get(topic):
                loop.call_later(0.005, table._apply, [record], record.offset + 1, True)
        return acknowledged

    async def room(self, size: int) -> None:
        """There is always room."""

    def is_stuck(self, topic: str) -> bool:
        return topic in self.stuck

    def to(self, topic: str) -> list[Record]:
        """The records written to a topic."""
        return [record for record in self.records if record.partition.topic == topic]

    def write_elsewhere(self, entry: AuditEntry) -> None:
        """Simulate an audit entry written by another process."""
        value = to_json(entry)
        self.records.append(Record(Partition(TOPICS.audit, 0), len(self.to(TOPICS.audit)), 0, b"", value, [], 0))

    @property
    def written(self) -> list[Record]:
        """The records written to the endpoints topic."""
        return self.to(TOPICS.endpoints)

    @property
    def audits(self) -> list[AuditEntry]:
        """The audit entries written, in order."""
        return [from_json(record.value, AuditEntry) for record in self.to(TOPICS.audit)]

    @property
    def changes(self) -> list[EndpointRecord]:
        """The endpoint records written."""
        return [from_json(record.value, EndpointRecord) for record in self.written if record.key != b"id-claim"]


class FakeAttempts(Search):
    """A store in memory: records what the handlers ask for, and returns prepared rows."""

    def __init__(self) -> None:
        self.queries: list[AttemptQuery] = []
        self.rows: tuple[AttemptRow, ...] = ()
        self.details: dict[int, AttemptDetail] = {}
        self.asked: list[tuple[list[int], int]] = []
        self.error: Exception | None = None
        self.seconds = 0.0
        self.begun, self.gone = asyncio.Event(), asyncio.Event()
        """Set when an answer is awaited, and when nobody awaits it any more."""
        self.since: datetime | None = None
        """If only the newest are counted or sorted: since when."""
        self.timelines_requested: list[tuple[TimelineSubject, str]] = []
        self.known: set[tuple[str, str]] = set()
        """Recorded values, by attribute."""
        self.record = timeline.TimelineRecords((), (), is_complete=True)
        self.sent: dict[str, bytes] = {}
        self.bodies_read: list[list[int]] = []
        """The attempts whose bodies were requested, by query."""
        self.expired: set[int] = set()
        """Attempts whose retention ends between the search and the query for their bodies."""
        self.counted: SearchSummary | Exception = SearchSummary(Facets(0, {}, {}, {}), Histogram(60, ()))
        self.pages: list[tuple[AttemptRow, ...]] = []
        """If there are any, the answers to successive searches."""

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
        cursor = "next" if query.per_page < MAX_PER_PAGE else None  # readers of several pages, such as a stream, get everything
        return AttemptPage(self.rows, len(self.rows), query.page, query.per_page, False, cursor, since)

    async def facets(self, query: AttemptQuery) -> Facets:
        await self._answer()
        self.queries.append(query)
        return Facets(3, {"failed": 2, "succeeded": 1}, {"order_completed": 3}, {7: 3}, self.since)

    async def histogram(self, query: AttemptQuery, bars: int = 60) -> Histogram:
        await self._answer()
        self.queries.append(query)
        return Histogram(bars, (AggregateBar(NOW, 3, 2), AggregateBar(LATER, 0, 0)), self.since)

    async def summary(self, query: AttemptQuery, bars: int) -> SearchSummary:
        await self._answer()
        if isinstance(self.counted, Exception):
            raise self.counted
        return self.counted

    async def record_of(self, about: TimelineSubject, value: str) -> timeline.TimelineRecords:
        await self._answer()
        self.timelines_requested.append((about, value))
        return self.record

    async def recorded_values(self, asked: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        await self._answer()
        return frozenset(asked) & self.known

    async def bodies_of(self, attempts: Sequence[AttemptRow], most_bytes: int | None = None) -> dict[int, Bodies | None]:
        await self._answer()
        self.bodies_read.append([one.id for one in attempts])
        sent = {one.id: self.sent.get(one.event_id, b"") for one in attempts if one.id not in self.expired}
        return {
            one: Bodies(body.decode(), "=answered()", "text") if most_bytes is None or len(body) <= most_bytes else None
            for one, body in sent.items()
        }

    async def request_bodies(self, attempts: Sequence[AttemptRow]) -> dict[str, str]:
        await self._answer()
        return {one.event_id: self.sent.get(one.event_id, b"").decode() for one in attempts}

    async def attempt(self, identifier: int) -> AttemptDetail | None:
        await self._answer()
        return self.details.get(identifier)

    async def endpoint_summaries(self, endpoint_ids: Sequence[int], last: int = 25) -> dict[int, EndpointSummary]:
        await self._answer()
        self.asked.append((list(endpoint_ids), last))
        found = {one: tuple(row for row in self.rows if row.endpoint_id == one) for one in endpoint_ids}
        return {one: EndpointSummary(len(rows), rows[:last]) for one, rows in found.items()}


class FakeReports(Reports):
    """Reports in memory."""

    def __init__(self, attempts: FakeAttempts, kafka: Kafka) -> None:
        self.attempts = attempts
        self.kafka = kafka
        self.stats = EndpointStats((), 0, None, None)
        self.letters: list[DeadLetterDetail] = []
        self.days: dict[int, EndpointDay] = {}
        self.hour = PipelineOverview((OverviewMinute(NOW, 0, 0, 0),) * MINUTES, None, None, 0, None)
        self.asked: list[tuple[str | None, str | None]] = []

    async def endpoint_days(self, until: datetime) -> dict[int, EndpointDay]:
        await self.attempts._answer()
        return self.days

    async def overview(self, until: datetime) -> PipelineOverview:
        await self.attempts._answer()
        return self.hour

    async def endpoint_stats(self, endpoint_id: int, until: datetime, *, buckets: int, width: timedelta) -> EndpointStats:
        await self.attempts._answer()
        return self.stats

    async def dead_letters(
        self,
        page: int,
        per_page: int,
        *,
        reason: str | None = None,
        topic: str | None = None,
        repaired: bool | None = None,
    ) -> ResultPage[DeadLetterSummary]:
        await self.attempts._answer()
        self.asked.append((reason, topic))
        known = [self._repaired(letter) for letter in self.letters]
        found = [
            one.summary
            for one in known
            if repaired in (None, one.summary.repaired is not None)
            and reason in (None, one.summary.reason)
            and topic in (None, one.summary.topic)
        ]
        return ResultPage(tuple(found[(page - 1) * per_page :][:per_page]), len(found), page, per_page)

    async def count_unrepaired_dead_letters(self) -> int:
        return (await self.dead_letters(1, 1, repaired=False)).total_count

    async def dead_letter(self, identifier: int) -> DeadLetterDetail | None:
        await self.attempts._answer()
        return next((self._repaired(letter) for letter in self.letters if letter.summary.id == identifier), None)

    def _repaired(self, letter: DeadLetterDetail) -> DeadLetterDetail:
        """Include the repair, as the recorder would have stored it from the audit entry."""
        entries = [
            one
            for one in self.kafka.audits
            if one.subject == f"{LETTER}{letter.summary.id}"
            and (one.detail.startswith(PUBLISHED) or one.action is AuditAction.DISMISS_DEAD_LETTER)
        ]
        if not entries:
            return letter
        is_dismissed = entries[-1].action is AuditAction.DISMISS_DEAD_LETTER
        done = RepairedBy(entries[-1].at, entries[-1].actor, entries[-1].actor_name, is_dismissed)
        return replace(letter, summary=replace(letter.summary, repaired=done))

    async def resends(self, events: Sequence[str], since: datetime) -> dict[tuple[str, int], DoneBy]:
        await self.attempts._answer()
        entries = [one for one in self.kafka.audits if one.action is AuditAction.RESEND]
        found = {}
        for one in entries:
            event, _, endpoint = one.detail.removeprefix("event ").rpartition(", endpoint ")
            found[event, int(endpoint.partition(",")[0])] = DoneBy(one.at, one.actor, one.actor_name)
        return {place: done for place, done in found.items() if place[0] in events}

    async def replays(self, limit: int = 20) -> tuple[ReplayRow, ...]:
        """The replays, as the recorder would have stored them from the audit entries."""
        await self.attempts._answer()
        steps: dict[str, list[AuditEntry]] = {}
        for entry in self.kafka.audits:
            if entry.action is AuditAction.REPLAY:
                steps.setdefault(entry.subject.removeprefix("replay "), []).append(entry)
        return tuple(
            ReplayRow(
                one,
                entries[0].actor,
                entries[0].at,
                entries[-1].at,
                sum(int(entry.detail.partition(" ")[0].replace(",", "")) for entry in entries),
                entries[-1].detail,
            )
            for one, entries in list(steps.items())[-limit:]
        )

    async def resend_runs(self, run_id: str | None = None, limit: int = 20) -> tuple[RunRow, ...]:
        """The runs, as the recorder would have stored them from the audit entries."""

        def is_request(entry: AuditEntry) -> bool:
            """Whether the entry is a request to stop the run."""
            return '"cancelling"' in entry.detail

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
                max(entry.at for entry in entries if not is_request(entry)),
                entries[-1].detail,
                is_cancelled=any(map(is_request, entries)),
            )
            for one, entries in list(runs.items())[-limit:]
            if run_id in (None, one)
        )


class FakeEraser(Eraser):
    """A store in memory that holds traces of the people asked for: ``found`` lists the answers in order; after them, nothing is
    found.
    """

    def __init__(self) -> None:
        self.asked: list[Subject] = []
        self.found: list[PersonData] = []
        self.started: list[PersonData] = []
        self.looks = 0
        self.error: Exception | None = None

    async def find(self, subject: Subject) -> PersonData:
        if self.error:
            raise self.error
        self.asked.append(subject)
        return self.found.pop(0) if self.found else PersonData()

    async def start(self, traces: PersonData) -> None:
        self.started.append(traces)

    async def left(self, traces: PersonData) -> int:
        self.looks = max(0, self.looks - 1)
        return self.looks


class FakeHistory(EventHistory):
    """Received events in memory."""

    def __init__(self) -> None:
        self.events: list[PastEvent] = []

    async def count(self, since: datetime, until: datetime) -> int:
        return len({event.id for event in self.events if since <= event.received_at < until})

    async def page(
        self, since: datetime, until: datetime, event_names: Sequence[str], after: PastEvent | None, limit: int
    ) -> list[PastEvent]:
        found = [one for one in self.events if since <= one.received_at < until and one.event_name in event_names]
        found.sort(key=lambda one: (one.received_at, one.id), reverse=True)
        return [one for one in found if after is None or (one.received_at, one.id) < (after.received_at, after.id)][:limit]


class FakeNotificationHistory(NotificationHistory):
    """What can be resent, from the attempts in memory. Any past event asked for is found."""

    def __init__(self, attempts: FakeAttempts) -> None:
        self.attempts = attempts
        self.events: list[tuple[EventMeta, tuple[int, ...], bytes | None]] = []
        """Each with its endpoints and its body."""
        self.asked: list[ReplayRequest] = []

    async def failed(self, query: AttemptQuery, most: int) -> FailedNotifications:
        await self.attempts._answer()
        self.attempts.queries.append(query)
        rows = [row for row in self.attempts.rows if row.state == "failed"]
        kept = {
            (row.event_id, row.endpoint_id): FailedNotification(row.event_id, row.endpoint_id, row.id, row.created_at)
            for row in rows
        }
        last = {(row.event_id, row.endpoint_id): row.outcome for row in rows}
        not_made = sum(one in ("discarded", "expired") for one in last.values())
        return FailedNotifications(tuple(kept.values())[:most], len(rows), is_all=len(kept) <= most, not_made=not_made)

    async def of_attempts(
        self, ids: Sequence[int], made: Sequence[datetime] = (), most_bytes: int | None = None
    ) -> dict[int, PastNotification | None]:
        await self.attempts._answer()
        self.attempts.bodies_read.append(list(ids))
        rows = self.attempts.rows
        delivered = {(row.event_id, row.endpoint_id) for row in rows if row.state == "succeeded"}
        known = {row.id: (row, NOW) for row in rows} | {
            one: (detail.attempt, detail.event_received_at) for one, detail in self.attempts.details.items()
        }
        return {
            one: PastNotification(
                _event_of(row, received),
                row.endpoint_id,
                self.attempts.sent.get(row.event_id),
                one,
                row.trigger == Trigger.TEST,
                (row.event_id, row.endpoint_id) in delivered,
            )
            if most_bytes is None or len(self.attempts.sent.get(row.event_id, b"")) <= most_bytes
            else None
            for one, (row, received) in known.items()
            if one in ids and one not in self.attempts.expired
        }

    async def count(self, wanted: ReplayRequest) -> tuple[int, int]:
        await self.attempts._answer()
        self.asked.append(wanted)
        return len(self.events), sum(len(endpoints) for _, endpoints, _ in self.events)

    async def page(self, wanted: ReplayRequest, after: ReplayPosition | None, limit: int) -> list[PastNotification]:
        await self.attempts._answer()
        self.asked.append(wanted)
        found = [[PastNotification(event, one, body) for one in endpoints] for event, endpoints, body in self.events]
        behind = [each for each in found if after is None or ReplayPosition.of(each[0]) > after]
        return [one for each in behind[:limit] for one in each]


def _event_of(row: AttemptRow, received_at: datetime | None) -> EventMeta:
    return EventMeta(
        id=row.event_id,
        event_name=row.event_name,
        created_at=row.event_created_at,
        order_number=row.order_number,
        shipment_numbers=row.shipment_numbers,
        subscription_id=row.subscription_id,
        stock_item_id=row.stock_item_id,
        skus=row.skus,
        received_at=received_at,
    )


class FakeSqlConsole(SqlConsole):
    """An analyst's ClickHouse in memory, with one canned answer."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    async def ask(self, statement: str) -> SqlResult:
        self.statements.append(statement)
        if not statement.startswith("SELECT"):
            raise StoreRejectedError("That is no SELECT.")
        return SqlResult((("n", "UInt64"), ("t", "String")), ((1, None),), 0.01)


@dataclass(slots=True)
class Service:
    """A running server and its parts. ``client`` sends the API key."""

    client: aiohttp.ClientSession
    anonymous: aiohttp.ClientSession
    url: str
    kafka: Kafka
    attempts: FakeAttempts
    reports: FakeReports
    analyst: FakeSqlConsole
    eraser: FakeEraser
    past: FakeNotificationHistory
    sender: FakeSender
    ring: KeyRing
    health: Health
    vault: Vault
    known: HealthTable
    encryption_key: str
    runs: ResendRuns
    ended: EndedSessions
    stop: Callable[[], Awaitable[None]]
    history: FakeHistory
    topics: MemoryBroker
    """The cluster in which topics of event types are created."""
    now: list[datetime] = field(default_factory=lambda: [NOW])
    events: EventReader = field(default_factory=lambda: EventReader(BUILT_IN, TOPICS, max_bytes=MAX_EVENT_BYTES_LIMIT))

    def learn(self, *facts: HealthRecord) -> None:
        """Simulate a health record written by a process that delivers."""
        self.known.apply([record(to_json(fact), key=fact.key) for fact in facts])

    def restart_with(self, keys: str) -> None:
        """Read everything again, as after a restart with other encryption keys."""
        vars(self.vault).update(vars(Vault(keys)))
        registry = self.kafka.registry
        registry._versions.clear()
        registry._apply(self.kafka.written)

    async def key(self, role: Access) -> str:
        """Create an API key with a role."""
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
    test_timeout_seconds: float = 2.0,
    search: Search | None = None,
    reports: Reports | None = None,
) -> AsyncIterator[Service]:
    """Start the server, and stop it at the end. With ``search`` and ``reports``, it reads from a real store."""
    encryption_key = Vault.new_key()
    vault = Vault(encryption_key)
    known = HealthTable(MemoryBroker(), TOPICS.endpoint_health)
    registry, ring = Registry(MemoryBroker(), TOPICS.endpoints, vault, health=known), KeyRing(MemoryBroker(), TOPICS.api_keys)
    now = [NOW]
    ended = EndedSessions(MemoryBroker(), TOPICS.ended_sessions, lambda: now[0])
    topics, catalogue = MemoryBroker(), EventTypeCatalogue(MemoryBroker(), TOPICS.event_types, BUILT_IN)
    kafka, attempts, health, sender = Kafka(registry, ring, ended, catalogue), FakeAttempts(), Health(), FakeSender()
    reported, analyst, eraser, past = (
        FakeReports(attempts, kafka),
        FakeSqlConsole(),
        FakeEraser(),
        FakeNotificationHistory(attempts),
    )
    history = FakeHistory()
    health_monitor = EndpointHealthMonitor(
        known, kafka, TOPICS, lambda: now[0], limits=FailingLimits(disable_after=timedelta(days=5))
    )
    delivery_service = DeliveryService(
        sender=cast("Sender", sender),
        admission=Admission(
            ConcurrencyLimiter(1, 0.01), AdmissionLimits(CircuitLimits(), 0.01, 10), on_change=health_monitor.circuit_changed
        ),
        health_monitor=health_monitor,
        publisher=DeliveryPublisher(kafka, TOPICS),
        policies=RetryPolicies(DELAYS),
        clock=lambda: now[0],
    )
    audit = AuditLog(kafka, TOPICS.audit, lambda: now[0], person=ring.person, write_timeout_seconds=WRITE_TIMEOUT_S)
    events = EventReader(BUILT_IN, TOPICS, max_bytes=MAX_EVENT_BYTES_LIMIT)
    catalogue.follow(events.use)
    resender = Resender(
        events=events,
        registry=registry,
        producer=kafka,
        topics=TOPICS,
        audit=audit,
        notifications=past,
        reports=reports or reported,
        search_timeout_seconds=search_timeout_seconds,
    )
    api = Api(
        registry=registry,
        producer=kafka,
        vault=vault,
        guard=guard,
        search=search or attempts,
        reports=reports or reported,
        delivery_service=delivery_service,
        verifier=EndpointVerifier(
            deliveries=delivery_service, producer=kafka, dispatches=TOPICS.dispatches, origin="hooks.example.com", seconds=2.0
        ),
        policies=delivery_service.policies,
        topics=TOPICS,
        ring=ring,
        keys=ApiKeys([SecretStr(API_KEY), SecretStr(OTHER_KEY)], ring.opening),
        ended_sessions=ended,
        eraser=eraser,
        history=history,
        audit=audit,
        resender=resender,
        runs=ResendRuns(resender, per_second=10_000, record_seconds=0.2),
        events=events,
        catalogue=catalogue,
        source_topics=SourceTopics(topics),
        analyst=analyst if is_embedded else None,
        streams=AttemptStreams(poll_seconds=0.1),
        clock=lambda: now[0],
        write_timeout_seconds=WRITE_TIMEOUT_S,
        search_timeout_seconds=search_timeout_seconds,
        test_timeout_seconds=test_timeout_seconds,
        erasure_timeout_seconds=0.6,
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
                server.stop,
                history,
                topics,
                now,
                events,
            )
    finally:
        await server.stop()
