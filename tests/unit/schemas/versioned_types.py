"""An event type that is published in two versions."""

from __future__ import annotations

from typing import Any, Final

from schemas.configured_events import ConfiguredEventType, EarlierVersion
from schemas.event_types import EventTypes

FIRST: Final[dict[str, Any]] = {"type": "object", "required": ["total"], "properties": {"total": {"type": "string"}}}
SECOND: Final[dict[str, Any]] = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}}
REFUND: Final = ConfiguredEventType(
    "refund_issued",
    "oms.orders",
    "Money is given back.",
    SECOND,
    {"v": 2, "amount": 499},
    version=2,
    version_at="/v",
    earlier=(EarlierVersion(1, FIRST, {"total": "4.99"}),),
)
VERSIONED: Final = EventTypes([REFUND])
