"""The services of the API and the dashboard: one class per resource with what its handlers need, and one class with all.

consumers/store_wiring.py makes one value with all services per process. A handler declares the class of its resource, and gets no more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from pipeline.broker.producer import Producer
from pipeline.core.retry_policies import RetryPolicies
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.delivery.verification import EndpointVerifier
from pipeline.endpoints.event_type_catalogue import EventTypeCatalogue
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.source_topics import SourceTopics
from pipeline.endpoints.vault import Vault
from pipeline.ops.clock import Clock, utc_now
from pipeline.sender.address_guard import AddressGuard
from pipeline.store.erase import Eraser
from pipeline.store.reports.history import EventHistory
from pipeline.store.reports.recent import Reports
from pipeline.store.search.queries import Search
from pipeline.store.sql_console import SqlConsole
from pipeline.web.attempt_streams import AttemptStreams
from pipeline.web.audit import AuditLog
from pipeline.web.auth import ApiKeys
from pipeline.web.client_address import Networks
from pipeline.web.key_ring import KeyRing
from pipeline.web.login_throttle import LoginThrottle
from pipeline.web.resend_runs import ResendRuns
from pipeline.web.resending import Resender
from pipeline.web.revoked_sessions import EndedSessions
from schemas.event_reader import EventReader
from schemas.topics import DEFAULT_HOLD, Topics

_CREATED_AT_ONCE: Final = 8


@dataclass(frozen=True, kw_only=True)
class CommonServices:
    """The services that every resource has."""

    audit: AuditLog
    events: EventReader
    """Knows the event types, and reads events as the fan-out does."""
    clock: Clock = utc_now


@dataclass(frozen=True, kw_only=True)
class SearchServices(CommonServices):
    """Resources that are read from ClickHouse."""

    search_timeout_seconds: float = 30.0
    """How long a search may take, including the wait for other searches."""


@dataclass(frozen=True, kw_only=True)
class WriteServices(CommonServices):
    """Resources that are changed by a record in Kafka."""

    producer: Producer
    write_timeout_seconds: float = 10.0
    """How long a change may wait for Kafka before it is answered with 503."""


@dataclass(frozen=True, kw_only=True)
class RegistryServices(CommonServices):
    """Resources that look endpoints up."""

    registry: Registry


@dataclass(frozen=True, kw_only=True)
class EndpointServices(RegistryServices, WriteServices):
    """Endpoints, what is held for them, their backups and their encryption."""

    vault: Vault
    guard: AddressGuard
    policies: RetryPolicies
    """The retry policies that endpoints may use."""
    disable_after: timedelta = timedelta(days=5)
    """How long an endpoint may fail before it is disabled."""
    verifier: EndpointVerifier | None = None
    """Asks endpoints whether they want webhooks."""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an endpoint is read and rewritten, so that no concurrent change is lost."""
    creating: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_CREATED_AT_ONCE))
    """Limits concurrent registrations: if Kafka stalls, at most this many take effect after they were answered with 503."""


@dataclass(frozen=True, kw_only=True)
class EventTypeServices(RegistryServices, WriteServices):
    """Event types, and the endpoints that subscribe to them."""

    catalogue: EventTypeCatalogue
    source_topics: SourceTopics
    """Creates the topics of event types."""


@dataclass(frozen=True, kw_only=True)
class AttemptServices(SearchServices):
    """Attempts, and their exports."""

    search: Search


@dataclass(frozen=True, kw_only=True)
class LiveAttemptServices(AttemptServices):
    """Attempts as they are recorded."""

    keys: ApiKeys
    """A stream ends when the key of its listener is revoked."""
    streams: AttemptStreams = field(default_factory=AttemptStreams)
    """Streams of new attempts."""


@dataclass(frozen=True, kw_only=True)
class EndpointListServices(EndpointServices, AttemptServices):
    """Endpoints, shown with their last attempts."""


@dataclass(frozen=True, kw_only=True)
class StatsServices(RegistryServices, SearchServices):
    """The recent attempts of endpoints."""

    reports: Reports


@dataclass(frozen=True, kw_only=True)
class SendTestServices(RegistryServices):
    producer: Producer
    delivery_service: DeliveryService
    topics: Topics
    test_timeout_seconds: float = 30.0
    """How long a test delivery may take in total. Must be longer than the limit of a request to an endpoint."""


@dataclass(frozen=True, kw_only=True)
class ResendServices(CommonServices):
    resender: Resender
    runs: ResendRuns
    """The runs that resend many notifications."""


@dataclass(frozen=True, kw_only=True)
class DeadLetterServices(SearchServices):
    reports: Reports
    resender: Resender


@dataclass(frozen=True, kw_only=True)
class PreviewServices(SearchServices):
    history: EventHistory


@dataclass(frozen=True, kw_only=True)
class ErasureServices(CommonServices):
    eraser: Eraser
    topics: Topics
    erasure_timeout_seconds: float = 600.0
    """How long ClickHouse may take to overwrite erased data before the request is answered with 503."""


@dataclass(frozen=True, kw_only=True)
class SqlServices(SearchServices):
    analyst: SqlConsole | None = None
    """Only with the embedded ClickHouse: runs SQL for holders of API keys."""


@dataclass(frozen=True, kw_only=True)
class KeyServices(WriteServices):
    ring: KeyRing


@dataclass(frozen=True, kw_only=True)
class AccessServices(KeyServices):
    """The API keys."""

    keys: ApiKeys
    ended_sessions: EndedSessions
    proxies: Networks = ()
    """Reverse proxies whose X-Forwarded-For is trusted."""
    login_throttle: LoginThrottle = field(default_factory=LoginThrottle)


@dataclass(frozen=True, kw_only=True)
class PauseServices(EndpointServices):
    """Endpoints, and how long their deliveries are held while they are paused."""

    hold: timedelta = DEFAULT_HOLD
    """How long deliveries wait for a paused or disabled endpoint."""


@dataclass(frozen=True, kw_only=True)
class EndpointStatsServices(EndpointListServices, StatsServices):
    """Endpoints, shown with their recent attempts."""


@dataclass(frozen=True, kw_only=True)
class EndpointActionServices(EndpointStatsServices, PauseServices):
    """Actions on an endpoint, with what they affect."""


@dataclass(frozen=True, kw_only=True)
class EndpointPageServices(EndpointActionServices, SendTestServices):
    """An endpoint, its recent attempts, and test deliveries to it."""


@dataclass(frozen=True, kw_only=True)
class EndpointFormServices(EndpointServices, PreviewServices):
    """Forms that register and change endpoints, with a preview of what they would have received."""

    catalogue: EventTypeCatalogue


@dataclass(frozen=True, kw_only=True)
class AttemptListServices(AttemptServices):
    """Attempts, shown with the names of their endpoints and event types."""

    registry: Registry
    catalogue: EventTypeCatalogue


@dataclass(frozen=True, kw_only=True)
class LiveAttemptPageServices(LiveAttemptServices):
    """New attempts, shown with the names of their endpoints, as long as the reader is logged in."""

    registry: Registry
    ended_sessions: EndedSessions


@dataclass(frozen=True, kw_only=True)
class NotificationServices(ResendServices, AttemptServices):
    """Notifications that can be resent, shown with their endpoints and with who resent them."""

    registry: Registry
    reports: Reports


@dataclass(frozen=True, kw_only=True)
class AttemptPageServices(EndpointListServices, NotificationServices):
    """An attempt, its notification and its endpoint."""


@dataclass(frozen=True, kw_only=True)
class LoginServices(AccessServices):
    """Logins to the dashboard, and the forms that are carried through them."""

    vault: Vault


@dataclass(frozen=True, kw_only=True)
class Api(
    EventTypeServices,
    DeadLetterServices,
    ErasureServices,
    SqlServices,
    EndpointPageServices,
    EndpointFormServices,
    AttemptListServices,
    LiveAttemptPageServices,
    AttemptPageServices,
    LoginServices,
):
    """All services."""
