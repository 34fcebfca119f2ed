"""The parts of the roles, built from the settings. Nothing is started here; consumers/roles.py knows in which order that is done."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING

from consumers.fanout import FanOut
from consumers.held import HeldDeliveries
from consumers.recorder import Recorder
from consumers.retry import Retry
from pipeline.broker.api import Broker
from pipeline.broker.producer import Producer
from pipeline.core.circuit import CircuitLimits
from pipeline.core.retry import RetrySchedule
from pipeline.delivery.broker_clock import BrokerClock
from pipeline.delivery.courier import Courier
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.gate import Gate
from pipeline.delivery.holding import Holding
from pipeline.delivery.watch import Watch
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.operational import operational_endpoint
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from pipeline.ops import metrics
from pipeline.ops.clock import utc_now
from pipeline.ops.descriptors import Budget, descriptor_limit
from pipeline.ops.settings import Settings
from pipeline.sender.client import Sender
from pipeline.sender.guard import AddressGuard
from pipeline.sender.lanes import Lanes
from pipeline.sender.limits import SenderLimits
from pipeline.store.analyst import Analyst
from pipeline.store.connection import Connections
from pipeline.store.erase import Eraser
from pipeline.store.replay import Replays
from pipeline.store.reports import Reports
from pipeline.store.search import Search
from pipeline.store.writer import Writer
from pipeline.web.api import Api
from pipeline.web.auth import ApiKeys
from pipeline.web.ended_sessions import EndedSessions
from pipeline.web.key_ring import KeyRing

if TYPE_CHECKING:
    from pipeline.ops.tracing import Tracing


class NoTracingError(Exception):
    """There is a collector for traces, and nothing that could send them; ``str(error)`` says what to do."""


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What the fan-out, the retry and the API's test deliveries share: the endpoints, and a sender with its bounds."""

    vault: Vault
    guard: AddressGuard
    health: HealthTable
    registry: Registry
    sender: Sender
    watch: Watch
    courier: Courier
    clock: BrokerClock
    holding: Holding


def open_tracing(settings: Settings, roles: Collection[str]) -> Tracing | None:
    """Who makes the spans; None without a collector.

    Raises:
        NoTracingError: OpenTelemetry is not installed.
    """
    if not settings.otlp_endpoint:
        return None
    try:
        from pipeline.ops.tracing import make_tracing, to_collector  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError as error:
        message = f"otlp_endpoint is set, but {error.name} is not installed; install oms-webhooks[tracing], or unset OMS_WEBHOOKS_OTLP_ENDPOINT."
        raise NoTracingError(message) from error
    service = "-".join(["oms-webhooks", *roles]) if len(roles) == 1 else "oms-webhooks"
    exporter = to_collector(settings.otlp_endpoint)
    return make_tracing(exporter, ratio=settings.trace_ratio, service=service, version=version("oms-webhooks"))


def make_producer(settings: Settings, broker: Broker) -> Producer:
    """The process's producer."""
    topics = [spec.name for spec in settings.topics.specs()]
    return Producer(broker, topics, max_bytes=settings.max_outstanding_bytes)


def make_deliveries(settings: Settings, broker: Broker, producer: Producer, tracing: Tracing | None) -> Deliveries:
    """The endpoints and who delivers to them."""
    metrics.ENDPOINT_ATTEMPTS.size = settings.metrics_top_endpoints
    key = settings.encryption_key
    vault = Vault(key.get_secret_value() if key else "")
    health = HealthTable(broker, settings.topics.endpoint_health)
    operational = operational_endpoint(settings)
    registry = Registry(broker, settings.topics.endpoints, vault, health=health, operational=operational)
    guard = AddressGuard(settings.allowed_networks)
    sender = Sender(
        SenderLimits(
            settings.max_in_flight,
            settings.request_timeout_seconds,
            settings.connect_timeout_seconds,
            idle=Budget(descriptor_limit(), settings.max_in_flight).idle,
        ),
        guard,
        probe_name=settings.resolver_probe_name,
        speedups=settings.sender_speedups,
    )
    disable_after = timedelta(days=settings.disable_after_days)
    clock = BrokerClock(settings.topics.clock)
    watch = Watch(health, producer, settings.topics, clock.now, disable_after=disable_after, is_time_certain=clock.may_disable)
    gate = _gate(settings, watch, registry)
    registry.on_idle = gate.forget
    courier = Courier(
        sender=sender,
        gate=gate,
        watch=watch,
        producer=producer,
        topics=settings.topics,
        schedule=RetrySchedule(settings.retry_delays),
        clock=clock.now,
        tracing=tracing,
    )
    holding = Holding(producer, settings.topics.held)
    return Deliveries(vault, guard, health, registry, sender, watch, courier, clock, holding)


def _gate(settings: Settings, watch: Watch, registry: Registry) -> Gate:
    limits = CircuitLimits(
        failures=settings.circuit_failures,
        open_seconds=settings.circuit_open_seconds,
        max_open_seconds=settings.circuit_open_max_seconds,
        max_asked_seconds=settings.retry_delays[-1].total_seconds(),
    )
    wait = settings.endpoint_wait_seconds
    lanes = Lanes(settings.max_in_flight_per_endpoint, wait, settings.slow_budget)
    return Gate(
        lanes,
        limits,
        longest_wait=wait,
        most_waiting=settings.slow_budget,
        on_change=watch.circuit_changed,
        current=registry.receiver,
    )


def make_api(settings: Settings, broker: Broker, producer: Producer, connections: Connections, deliveries: Deliveries) -> Api:
    """What the HTTP API works with."""
    ring = KeyRing(broker, settings.topics.api_keys)
    return Api(
        registry=deliveries.registry,
        producer=producer,
        vault=deliveries.vault,
        guard=deliveries.guard,
        search=Search(connections),
        reports=Reports(connections),
        courier=deliveries.courier,
        topics=settings.topics,
        ring=ring,
        keys=ApiKeys(settings.api_keys, ring.opening),
        ended_sessions=EndedSessions(broker, settings.topics.ended_sessions, deliveries.clock.now),
        eraser=Eraser(connections),
        replays=Replays(connections),
        clock=deliveries.clock.now,
        max_event_bytes=settings.max_event_bytes,
        hold=timedelta(days=settings.hold_days),
        proxies=settings.trusted_proxies,
        test_timeout_seconds=settings.request_timeout_seconds + 10.0,
        # A ClickHouse server is asked directly, with users and roles of its own (deploy/clickhouse).
        analyst=Analyst(connections) if connections.is_embedded else None,
    )


def make_recorder(
    settings: Settings, broker: Broker, producer: Producer, connections: Connections, tracing: Tracing | None
) -> Recorder:
    """The recorder."""
    topics = settings.topics
    dead_letters = DeadLetters(producer, topics.dead_letters, utc_now, read_topics=topics.recorded)
    return Recorder(settings, broker, writer=Writer(connections), dead_letters=dead_letters, tracing=tracing)


def make_fan_out(
    settings: Settings, broker: Broker, producer: Producer, deliveries: Deliveries, tracing: Tracing | None
) -> FanOut:
    """The fan-out."""
    topics = settings.topics
    read_topics = (*topics.sources, topics.operational_events)
    dead_letters = DeadLetters(producer, topics.dead_letters, utc_now, read_topics=read_topics)
    return FanOut(
        settings,
        broker,
        registry=deliveries.registry,
        courier=deliveries.courier,
        producer=producer,
        holding=deliveries.holding,
        dead_letters=dead_letters,
        clock=deliveries.clock.now,
        tracing=tracing,
    )


def make_retry(
    settings: Settings,
    broker: Broker,
    producer: Producer,
    deliveries: Deliveries,
    existing_topics: Collection[str],
    tracing: Tracing | None,
) -> Retry:
    """The retry; ``existing_topics`` are those that Kafka has."""
    dead_letters = DeadLetters(producer, settings.topics.dead_letters, utc_now, read_topics=settings.topics.delay_topics)
    return Retry(
        settings,
        broker,
        registry=deliveries.registry,
        courier=deliveries.courier,
        holding=deliveries.holding,
        dead_letters=dead_letters,
        existing_topics=existing_topics,
        broker_seconds=deliveries.clock.seconds,
        tracing=tracing,
    )


def make_held(settings: Settings, broker: Broker, producer: Producer, deliveries: Deliveries, retry: Retry) -> HeldDeliveries:
    """The held deliveries, kept beside the retry."""
    topics = settings.topics
    return HeldDeliveries(
        settings,
        broker=broker,
        registry=deliveries.registry,
        health=deliveries.health,
        producer=producer,
        courier=deliveries.courier,
        dead_letters=DeadLetters(producer, topics.dead_letters, utc_now, read_topics=(topics.held,)),
        clock=deliveries.clock.now,
        backlog=lambda: retry.worker.consumer.outstanding,
        is_time_certain=deliveries.clock.may_disable,
    )
