"""Watches what a process depends on, for ``/readyz`` and for the steps of the start that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from consumers.kafka_context import KafkaContext
from consumers.role import Role
from consumers.start_context import StartContext
from consumers.startup import StartupRetries
from consumers.wiring import PROXY_ASKED_EVERY, egress_proxy_question
from pipeline.broker.errors import TopicError, UnavailableError
from pipeline.broker.kafka.readiness_probe import EVERY_SECONDS as ASKED_EVERY
from pipeline.broker.kafka.readiness_probe import BrokerProbe
from pipeline.ops.dependency_probes import Probe
from pipeline.sender.address_guard import AddressGuard


@dataclass(frozen=True, slots=True)
class KafkaDependency:
    """Kafka, as its probe sees it."""

    probe: BrokerProbe
    retries: StartupRetries
    recreated: asyncio.Future[None]
    """Fails if a topic is recreated while the process runs: the offsets that it knows then mean nothing."""


def watch_kafka(context: StartContext, kafka: KafkaContext) -> KafkaDependency:
    """Include Kafka in ``/readyz``."""
    read, written = context.topics()
    broker = BrokerProbe(context.settings, read=read, written=written, on_ids=kafka.topic_ids.note_current)
    context.stack.push_async_callback(broker.close)
    context.health.warn("source topics", broker.warning)
    context.health.warn("retention", broker.retention_warning)
    recreated: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    were_recreated: list[str] = []

    async def ask() -> None:
        """The brokers' view of replicas may be outdated, so also ask whether they accept writes."""
        nonlocal were_recreated
        await broker.ask()
        are_recreated = [] if context.health.starting else kafka.topic_ids.recreated()
        # Seen twice, because one broker alone may be behind the others.
        if were_recreated and are_recreated and not recreated.done():
            recreated.set_exception(TopicError(str(kafka.topic_ids.problem())))
        were_recreated = are_recreated
        if problem := kafka.producer.problem():
            raise UnavailableError(problem)

    probe = context.probes.add("kafka", ask, every=ASKED_EVERY)
    retries = watch_dependency(context, "Kafka", probe, needed_by={Role.FANOUT, Role.RETRY, Role.RECORDER})
    return KafkaDependency(broker, retries, recreated)


def watch_egress_proxy(context: StartContext, guard: AddressGuard) -> None:
    """Deliveries are parked while it is down. The process stays ready: taking it out of service would not help."""
    if (ask := egress_proxy_question(context.settings, guard)) is not None:
        outage = context.probes.add("egress_proxy", ask, every=PROXY_ASKED_EVERY).outage
        context.health.warn("egress proxy", lambda: outage.problem)


def watch_dependency(context: StartContext, name: str, probe: Probe, *, needed_by: Collection[Role]) -> StartupRetries:
    """Include a dependency in ``/readyz``. A role that does not always need it is ready without it, once it has started."""
    always = not context.roles.isdisjoint(needed_by)
    for_start = always or name == "Kafka"  # every role waits for it
    retries = StartupRetries(probe, ends_when_refused=context.ends_when_refused)
    if for_start:
        context.health.add_wait(name, retries.is_waiting)

    def is_needed() -> bool:
        return always or (for_start and context.health.starting)

    context.health.add(probe.outage.dependency, lambda: retries.problem() if is_needed() else None)
    context.health.warn(probe.outage.dependency, lambda: None if is_needed() else retries.problem())
    return retries
