"""Builds the parts of the roles from the settings. Nothing is started here; consumers/run.py knows the order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from consumers.fanout import FanOut
from pipeline.broker.api import Broker
from pipeline.broker.producer import Producer
from pipeline.core.circuit import CircuitLimits
from pipeline.core.recovery_ramp import RampLimits
from pipeline.delivery.admission import Admission, AdmissionLimits, OtherProcesses
from pipeline.delivery.broker_clock import BrokerClock
from pipeline.delivery.consumer_services import ConsumerServices
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.delivery.endpoint_health_monitor import EndpointHealthMonitor, FailingLimits
from pipeline.delivery.expiry_monitor import ExpiryMonitor
from pipeline.delivery.filter_failure_monitor import FilterFailureMonitor
from pipeline.delivery.observer import DeliveryObserver
from pipeline.delivery.publisher import DeliveryPublisher
from pipeline.delivery.rate_share_exchange import RateShareExchange
from pipeline.endpoints.event_type_catalogue import EventTypeCatalogue
from pipeline.endpoints.health import HealthTable
from pipeline.endpoints.operational_endpoint import operational_endpoint
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from pipeline.ops import metrics
from pipeline.ops.dependency_probes import Ask
from pipeline.ops.file_descriptors import DescriptorBudget, descriptor_limit
from pipeline.ops.settings import Settings
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.client import EgressRoute, Sender
from pipeline.sender.concurrency_limiter import ConcurrencyLimiter
from pipeline.sender.egress_proxy_check import check_egress_proxy
from pipeline.sender.limits import SenderLimits
from schemas.health import HealthFact

if TYPE_CHECKING:
    from consumers.held_deliveries import HeldDeliveries
    from consumers.ordered_deliveries import OrderedDeliveries
    from consumers.retry import Retry
    from pipeline.ops.tracing import Tracing

PROXY_ASKED_EVERY: Final = 30.0


class NoTracingError(Exception):
    """A collector for traces is configured, but the package to send them is missing; ``str(error)`` says what to do."""


@dataclass(frozen=True, slots=True)
class DeliveryContext:
    """What the fan-out, the retry and the API's test deliveries share: the endpoints, and a sender with its limits."""

    vault: Vault
    guard: AddressGuard
    health: HealthTable
    registry: Registry
    sender: Sender
    health_monitor: EndpointHealthMonitor
    delivery_service: DeliveryService
    clock: BrokerClock
    filter_failures: FilterFailureMonitor
    rate_shares: RateShareExchange
    expiry: ExpiryMonitor
    event_types: EventTypeCatalogue

    def for_role(self, producer: Producer, dead_letters: DeadLetters, tracing: Tracing | None = None) -> ConsumerServices:
        """The services of one role."""
        return ConsumerServices(
            registry=self.registry,
            service=self.delivery_service,
            producer=producer,
            dead_letters=dead_letters,
            clock=self.clock.now,
            tracing=tracing,
            filter_failures=self.filter_failures,
        )


def open_tracing(settings: Settings, roles: Collection[str]) -> Tracing | None:
    """What creates spans. None if no collector is configured.

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


def make_deliveries(
    settings: Settings, broker: Broker, producer: Producer, clock: BrokerClock, health: HealthTable, tracing: Tracing | None
) -> DeliveryContext:
    """The endpoints and the services that deliver to them."""
    topics, key = settings.topics, settings.encryption_key
    vault = Vault(key.get_secret_value() if key else "")
    registry = Registry(broker, topics.endpoints, vault, health=health, operational=operational_endpoint(settings))
    guard = AddressGuard(settings.allowed_networks)
    sender = _sender(settings, guard)
    health_monitor = _health_monitor(settings, health, producer, clock)
    rate_shares = RateShareExchange(broker, topics.rate_shares, producer)
    delivery_service = DeliveryService(
        sender=sender,
        admission=_admission(settings, health_monitor, registry, rate_shares),
        health_monitor=health_monitor,
        publisher=DeliveryPublisher(producer, topics),
        policies=settings.retry_policies,
        clock=clock.now,
        observer=DeliveryObserver(tracing, counts_endpoints=bool(settings.metrics_top_endpoints)),
    )
    filter_failures = FilterFailureMonitor(registry, producer, topics.endpoint_health, clock.now, health_monitor.notices)
    deliveries = DeliveryContext(
        vault,
        guard,
        health,
        registry,
        sender,
        health_monitor,
        delivery_service,
        clock,
        filter_failures,
        rate_shares,
        ExpiryMonitor(registry, producer, topics.endpoint_health, health_monitor.notices, clock.now),
        EventTypeCatalogue(broker, topics.event_types, settings.event_types),
    )
    _follow_endpoints(deliveries)
    return deliveries


def _follow_endpoints(deliveries: DeliveryContext) -> None:
    """Let the services know when an endpoint or its health changes. Each of them also asks the registry or the health table, so it is built
    after these two: it cannot be an argument of their constructors.
    """
    registry, service = deliveries.registry, deliveries.delivery_service

    def forget(endpoint_id: int) -> None:
        metrics.ENDPOINT_ATTEMPTS.forget(endpoint_id)
        deliveries.health_monitor.forget(endpoint_id)
        deliveries.filter_failures.forget(endpoint_id)

    registry.on_resumed = service.admission.begin_ramp
    registry.on_idle = service.forget
    registry.on_deleted = forget
    deliveries.health.follow(HealthFact.CIRCUIT, service.admission.apply_reported_circuits)


def _sender(settings: Settings, guard: AddressGuard) -> Sender:
    limits = SenderLimits(
        settings.max_in_flight,
        settings.request_timeout_seconds,
        settings.connect_timeout_seconds,
        idle=DescriptorBudget(descriptor_limit(), settings.max_in_flight).idle,
    )
    route = EgressRoute(settings.proxy, settings.resolver_probe_name)
    return Sender(limits, guard, route, speedups=settings.sender_speedups)


def _health_monitor(settings: Settings, health: HealthTable, producer: Producer, clock: BrokerClock) -> EndpointHealthMonitor:
    limits = FailingLimits(
        disable_after=timedelta(days=settings.disable_after_days),
        notify_after=timedelta(hours=settings.tell_failing_after_hours),
    )
    return EndpointHealthMonitor(health, producer, settings.topics, clock.now, limits=limits, is_time_certain=clock.may_disable)


def egress_proxy_question(settings: Settings, guard: AddressGuard) -> Ask | None:
    """A function that checks the egress proxy; None if there is none."""
    if settings.proxy is None:
        return None
    return partial(check_egress_proxy, settings.proxy, guard, settings.resolver_probe_name)


def _admission(
    settings: Settings, health_monitor: EndpointHealthMonitor, registry: Registry, rate_shares: RateShareExchange
) -> Admission:
    limits = CircuitLimits(
        failures=settings.circuit_failures,
        open_seconds=settings.circuit_open_seconds,
        max_open_seconds=settings.circuit_open_max_seconds,
        max_asked_seconds=settings.retry_delays[-1].total_seconds(),
    )
    wait, start = settings.endpoint_wait_seconds, settings.ramp_start_per_second
    ramp = RampLimits(start, settings.ramp_double_seconds) if start else None
    limiter = ConcurrencyLimiter(settings.max_in_flight_per_endpoint, wait, settings.slow_budget)
    return Admission(
        limiter,
        AdmissionLimits(limits, wait, settings.slow_budget, ramp),
        on_change=health_monitor.circuit_changed,
        current=registry.receiver,
        other_processes=OtherProcesses(rate_shares.share, health_monitor.reported_circuit),
    )


def make_fan_out(
    settings: Settings, broker: Broker, producer: Producer, deliveries: DeliveryContext, tracing: Tracing | None
) -> FanOut:
    topics = settings.topics
    read_topics = (*topics.sources, topics.operational_events)
    dead_letters = DeadLetters(producer, topics.dead_letters, deliveries.clock.now, read_topics=read_topics)
    fan_out = FanOut(settings, broker, deliveries.for_role(producer, dead_letters, tracing))
    deliveries.event_types.follow(fan_out.events.use)
    return fan_out


def make_retry(
    settings: Settings,
    broker: Broker,
    producer: Producer,
    deliveries: DeliveryContext,
    existing_topics: Collection[str],
    tracing: Tracing | None,
) -> Retry:
    """The retry; ``existing_topics`` are the topics in Kafka."""
    from consumers.retry import Retry  # noqa: PLC0415 - a fan-out starts sooner without it

    dead_letters = DeadLetters(
        producer, settings.topics.dead_letters, deliveries.clock.now, read_topics=settings.topics.delay_topics
    )
    return Retry(
        settings,
        broker,
        deliveries.for_role(producer, dead_letters, tracing),
        existing_topics=existing_topics,
        broker_seconds=deliveries.clock.seconds,
    )


def make_held(
    settings: Settings, broker: Broker, producer: Producer, deliveries: DeliveryContext, retry: Retry
) -> HeldDeliveries:
    """The held deliveries, processed beside the retry."""
    from consumers.held_deliveries import HeldDeliveries  # noqa: PLC0415 - see make_retry

    topics = settings.topics
    dead_letters = DeadLetters(producer, topics.dead_letters, deliveries.clock.now, read_topics=(topics.held,))
    return HeldDeliveries(
        settings,
        broker,
        deliveries.for_role(producer, dead_letters),
        health=deliveries.health,
        backlog=lambda: retry.worker.consumer.outstanding,
        is_time_certain=deliveries.clock.may_disable,
    )


def make_ordered(settings: Settings, broker: Broker, producer: Producer, deliveries: DeliveryContext) -> OrderedDeliveries:
    """The deliveries in order, processed beside the retry."""
    from consumers.ordered_deliveries import OrderedDeliveries  # noqa: PLC0415 - see make_retry

    topics = settings.topics
    dead_letters = DeadLetters(producer, topics.dead_letters, deliveries.clock.now, read_topics=(topics.ordered,))
    return OrderedDeliveries(
        settings,
        broker,
        deliveries.for_role(producer, dead_letters),
        health=deliveries.health,
        broker_seconds=deliveries.clock.seconds,
        is_time_certain=deliveries.clock.may_disable,
    )
