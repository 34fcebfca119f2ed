"""One sample payload for each event type, for test deliveries and for the documentation.

Uses `schemas.event`. Each file is named after its event type.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from schemas.event import EventType


def sample_payload(event_type: EventType) -> Any:
    """The sample payload of an event type, parsed."""
    return json.loads(resources.files(__name__).joinpath(f"{event_type.value}.json").read_bytes())
