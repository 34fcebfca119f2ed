"""A delivery service with a sender and a producer in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

from pipeline.broker.memory.broker import MemoryBroker
from pipeline.core.circuit import CircuitLimits
from pipeline.core.exchange import Exchange, Failure, Headers, NoResponse, Request, Response
from pipeline.core.local_faults import NotSent
from pipeline.core.retry_policies import RetryPolicies
from pipeline.core.signing import new_secret
from pipeline.delivery.admission import Admission, AdmissionLimits, Current
from pipeline.delivery.delivery import Delivery
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.delivery.endpoint_health_monitor import EndpointHealthMonitor, FailingLimits
from pipeline.delivery.publisher import DeliveryPublisher
from pipeline.endpoints.endpoint import Endpoint, open_endpoint
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.vault import Vault
from pipeline.sender.client import Sender
from pipeline.sender.concurrency_limiter import ConcurrencyLimiter
from schemas.attempt import Attempt
from schemas.batch import read_attempts
from schemas.codec import from_header, from_json
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord, Trigger
from schemas.endpoint import SealedSecret
from schemas.health import HealthRecord
from schemas.operational import ENDPOINT_DISABLED, OperationalEvent
from schemas.topics import Topics
from tests.unit.fake_kafka import FakeProducer, Sent, record
from tests.unit.sample_events import META, NOW, endpoint_record

VAULT = Vault(Vault.new_key())
SECRET, OLD_SECRET = new_secret(), new_secret()
MIN_REPORT_SECONDS = 0.05
LIMITS = CircuitLimits(failures=100, open_seconds=5, max_open_seconds=60)
DELAYS = tuple(timedelta(seconds=seconds) for seconds in (5, 60, 600, 3600, 21600))
TOPICS = Topics(DELAYS, "t.")
BODY = b'{"id":"evt_1","data":{"total": 1.10}}'


def endpoint(*, token: str | None = None, rotated: bool = False, secret: str | None = SECRET) -> Endpoint:
    secrets = [] if secret is None else [SealedSecret(sealed=VAULT.seal(secret))]
    if rotated:
        secrets.append(SealedSecret(sealed=VAULT.seal(OLD_SECRET), expires_at=NOW + timedelta(hours=1)))
    return open_endpoint(endpoint_record(secrets=tuple(secrets), sealed_token=VAULT.seal(token) if token else None), VAULT)


def answer(status: int, headers: Headers = (), body: bytes = b"") -> Response:
    return Response(status, headers, body, body_truncated=False, duration_ms=250.0, first_byte_ms=200.0)


NO_ANSWER = NoResponse(Failure.TIMEOUT, "hooks.example.com: no complete response within 15 s.", 15_000.0)


class FakeSender:
    """Gives every request the same answer, after an optional step."""

    def __init__(self) -> None:
        self.exchange: Exchange | NotSent = answer(200)
        self.requests: list[Request] = []
        self.before: Callable[[], Awaitable[object]] | None = None

    async def post(self, request: Request, on_start: Callable[[], None] | None = None) -> Exchange | NotSent:
        if on_start is not None:
            on_start()
        self.requests.append(request)
        if self.before is not None:
            await self.before()
        return self.exchange


class Scene:
    """A delivery service and everything around it."""

    def __init__(
        self,
        *,
        hold: bool = False,
        width: int = 10,
        limits: CircuitLimits = LIMITS,
        longest_wait: float = 0.01,
        max_waiting: int = 100,
        report_every_seconds: float = MIN_REPORT_SECONDS,
        current: Current | None = None,
    ) -> None:
        self.sender = FakeSender()
        self.producer = FakeProducer(hold=hold)
        self.limiter = ConcurrencyLimiter(width, 0.01)
        self.now = NOW
        self.seconds = 1000.0
        """The time of the circuits and rates."""
        self.health = HealthTable(MemoryBroker(), TOPICS.endpoint_health)
        self.health_monitor = EndpointHealthMonitor(
            self.health,
            self.producer,
            TOPICS,
            lambda: self.now,
            limits=FailingLimits(disable_after=timedelta(days=5), report_every_seconds=report_every_seconds),
        )
        self.delivery_service = DeliveryService(
            sender=cast("Sender", self.sender),
            admission=Admission(
                self.limiter,
                AdmissionLimits(limits, longest_wait, max_waiting),
                on_change=self.health_monitor.circuit_changed,
                clock=lambda: self.seconds,
                current=current,
            ),
            health_monitor=self.health_monitor,
            publisher=DeliveryPublisher(self.producer, TOPICS),
            policies=RetryPolicies(DELAYS),
            clock=lambda: self.now,
        )

    async def deliver(
        self, to: Endpoint | None = None, *, attempt: int = 1, trigger: Trigger = Trigger.EVENT, parked: int = 0
    ) -> None:
        await self.delivery_service.deliver(Delivery(META, BODY, to or endpoint(), attempt, trigger, parked=parked))

    def attempts(self) -> list[Attempt]:
        return [each for sent in self.producer.to("t.webhooks.attempts") for each in read_attempts(sent.value)]

    def delayed(self) -> list[Sent]:
        return [sent for sent in self.producer.sent if sent.topic.startswith("t.webhooks.delay.")]

    def left_behind(self) -> list[Sent]:
        """Return what was sent, without the records about the endpoint's health."""
        return [sent for sent in self.producer.sent if sent.topic != TOPICS.endpoint_health]

    def read_health(self) -> None:
        """Let the health table read its topic to the end."""
        for sent in self.producer.to(TOPICS.endpoint_health):
            position = sent.position.offset
            self.health.apply([record(sent.value, topic=sent.topic, key=sent.key, partition=0, offset=position)])

    def facts(self) -> list[HealthRecord]:
        return [from_json(sent.value, HealthRecord) for sent in self.producer.to(TOPICS.endpoint_health)]

    def disabled_events(self) -> list[Any]:
        """Return the events about disabled endpoints; their data differs from that of the others."""
        return [event for event in self.events() if event.event_name == ENDPOINT_DISABLED]

    def notices(self) -> list[tuple[str, Any]]:
        """Return the other operational events: names and data."""
        return [(event.event_name, event.notice) for event in self.events() if event.event_name != ENDPOINT_DISABLED]

    def events(self) -> list[OperationalEvent]:
        return [from_json(sent.value, OperationalEvent) for sent in self.producer.to(TOPICS.operational_events)]


def delivery_of(sent: Sent) -> DeliveryRecord:
    return from_header(sent.headers, DELIVERY_HEADER, DeliveryRecord)
