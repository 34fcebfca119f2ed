"""The services of a role that delivers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.broker.producer import Producer
from pipeline.delivery.dead_letters import DeadLetters
from pipeline.delivery.delivery_service import DeliveryService
from pipeline.delivery.filter_failure_monitor import FilterFailureMonitor
from pipeline.endpoints.registry import Registry
from pipeline.ops.clock import Clock, utc_now

if TYPE_CHECKING:
    from pipeline.ops.tracing import Tracing


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsumerServices:
    """One per role. ``dead_letters`` covers the topics that the role reads. The roles of a process share everything else."""

    registry: Registry
    service: DeliveryService
    producer: Producer
    dead_letters: DeadLetters
    clock: Clock = utc_now
    tracing: Tracing | None = None
    filter_failures: FilterFailureMonitor | None = None
    """Used by the fan-out only."""
