"""Ten different endpoints: their subscriptions, their filters, and how they misbehave.

Plain Python here repeats which events match: the ledger's expectation does not come from the product.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.devtools.simulator import SimulatedEvent
from schemas.event import EventType
from tests.faults.receivers import Behaviour

EVERYTHING = frozenset(name.value for name in EventType)
ORDERS = frozenset({EventType.ORDER_COMPLETED.value, EventType.ORDER_CANCELLED.value})
SHIPPED_AND_STOCK = frozenset(
    name.value for name in (EventType.SHIPMENT_SHIPPED, EventType.STOCK_ITEM_OUT_OF_STOCK, EventType.STOCK_ITEM_BACK_IN_STOCK)
)
UPDATED_AND_ORDERS = ORDERS | {EventType.SHIPMENT_UPDATED.value}
TRACKED = frozenset({EventType.SHIPMENT_DELIVERY_STATUS_UPDATED.value})
ARRIVED_OR_NOT = ("delivered", "failure", "return_to_sender")


HEALTHY = Behaviour()


def _any(_: Mapping[str, Any]) -> bool:
    return True


@dataclass(frozen=True)
class FaultyEndpoint:
    """An endpoint: registered with ``events`` and ``filters``, whose meaning is ``wants``."""

    path: str
    events: frozenset[str]
    behaviour: Behaviour = HEALTHY
    filters: Mapping[str, list[object]] = field(default_factory=dict)
    wants: Callable[[Mapping[str, Any]], bool] = _any
    is_ordered: bool = False


ENDPOINTS = (
    FaultyEndpoint("/erp", EVERYTHING),
    FaultyEndpoint("/warehouse", EVERYTHING),
    FaultyEndpoint("/flaky", EVERYTHING, Behaviour(fail_rate=0.2)),
    FaultyEndpoint("/accounting", ORDERS),
    FaultyEndpoint("/shop-front", SHIPPED_AND_STOCK),
    FaultyEndpoint("/slow", UPDATED_AND_ORDERS, Behaviour(slow_rate=1.0, slow_seconds=0.3)),
    FaultyEndpoint("/hanging", SHIPPED_AND_STOCK, Behaviour(hang_rate=0.02)),
    FaultyEndpoint("/resetting", UPDATED_AND_ORDERS, Behaviour(reset_rate=0.2)),
    FaultyEndpoint("/dollars", EVERYTHING, filters={"currency": ["USD"]}, wants=lambda data: data.get("currency") == "USD"),
    FaultyEndpoint(
        "/arrivals",
        TRACKED,
        filters={"delivery_status": list(ARRIVED_OR_NOT)},
        wants=lambda data: data.get("delivery_status") in ARRIVED_OR_NOT,
    ),
)


def wanted_by(event: SimulatedEvent, endpoints: Iterable[FaultyEndpoint] = ENDPOINTS) -> frozenset[str]:
    """Return the paths of the endpoints that must get the event."""
    name, data = event.event_name.value, json.loads(event.value)["data"]
    return frozenset(endpoint.path for endpoint in endpoints if name in endpoint.events and endpoint.wants(data))
