"""Starts the parts that use ClickHouse. Like `consumers.store_wiring`, it is loaded only by the recorder and the API."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumers.concurrent_steps import cancel, stopped
from consumers.dependencies import watch_dependency
from consumers.kafka_context import KafkaContext
from consumers.recorder import Recorder
from consumers.role import Role
from consumers.start_context import StartContext
from consumers.startup import StartupRetries
from consumers.store_wiring import Recording, make_maintenance, make_recorder, prepare_store, watch_store
from pipeline.store.connection import Connections

if TYPE_CHECKING:
    from pipeline.ops.tracing import Tracing


@dataclass(frozen=True, slots=True)
class StoreInPreparation:
    """ClickHouse, while ``tables`` creates or upgrades its tables, and afterwards."""

    connections: Connections
    retries: StartupRetries
    tables: asyncio.Task[None]


def start_store(context: StartContext, connections: Connections) -> StoreInPreparation:
    """Create the tables in the background."""
    context.stack.push_async_callback(connections.close)
    probe = context.probes.add("clickhouse", connections.ping)
    connections.refuse_reads_while(lambda: probe.outage.problem)
    retries = watch_dependency(context, "ClickHouse", probe, needed_by={Role.RECORDER})
    tables = asyncio.create_task(prepare_store(connections, retries))
    context.stack.push_async_callback(cancel, tables)
    context.stack.push_async_callback(cancel, asyncio.create_task(watch_store(connections, tables)))
    return StoreInPreparation(connections, retries, tables)


async def start_recording(
    context: StartContext, store: StoreInPreparation, kafka: KafkaContext, retries: StartupRetries, tracing: Tracing | None
) -> asyncio.Future[None]:
    """Returns the future that fails when the recorder fails. ``retries`` are those of Kafka."""
    recorder = _recorder(context, store.connections, kafka, tracing) if Role.RECORDER in context.roles else None
    maintenance = make_maintenance(context.settings, recorder, store.connections) if recorder is not None else None
    recording = Recording(store.tables, recorder, retries, maintenance)
    context.stack.push_async_callback(lambda: stopped(recording.stop(context.settings.drain_seconds)))
    # Neither deliveries nor the API wait for ClickHouse. If it answers immediately, they wait for what takes a moment.
    await recording.until_started(unless=None if context.roles == {Role.RECORDER} else store.retries.has_waited)
    return recording.task


def _recorder(context: StartContext, connections: Connections, kafka: KafkaContext, tracing: Tracing | None) -> Recorder:
    recorder = make_recorder(context.settings, kafka.broker, kafka.producer, connections, tracing)
    context.health.add("recorder", recorder.problem)
    recorder.consumer.missing.on_missing = kafka.losses.note
    return recorder
