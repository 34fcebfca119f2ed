"""The golden records: as models, and as whole records that the consumers can process."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from pipeline.broker.api import Record
from schemas.api_key import ApiKeyRecord
from schemas.attempt import Attempt
from schemas.audit import AuditEntry
from schemas.delivery import DEAD_LETTER_HEADER, DELIVERY_HEADER, DISPATCH_HEADER, DeadLetter, DeliveryRecord, Dispatch
from schemas.ended_session import EndedSession
from schemas.endpoint import EndpointRecord
from schemas.event_type_record import EventTypeRecord
from schemas.health import HealthRecord
from schemas.lane_progress import LaneProgress
from schemas.missing_records import MissingRecord
from schemas.operational import OperationalEvent
from schemas.own_records import OwnRecord
from schemas.rate_share import RateShareRecord
from schemas.topic_ids import TopicIdsRecord
from tests.unit.fake_kafka import record
from tests.unit.sample_events import GOLDEN

MODELS: Final[dict[str, type[OwnRecord]]] = {
    "attempt": Attempt,
    "delivery": DeliveryRecord,
    "dispatch": Dispatch,
    "dead_letter": DeadLetter,
    "endpoint": EndpointRecord,
    "health": HealthRecord,
    "operational": OperationalEvent,
    "api_key": ApiKeyRecord,
    "audit": AuditEntry,
    "ended_session": EndedSession,
    "missing": MissingRecord,
    "topic_ids": TopicIdsRecord,
    "rate_share": RateShareRecord,
    "event_type": EventTypeRecord,
    "lane_progress": LaneProgress,
}
"""Every record type that we write, by the name of its golden files."""
HEADERS: Final = {"delivery": DELIVERY_HEADER, "dispatch": DISPATCH_HEADER, "dead_letter": DEAD_LETTER_HEADER}
"""Those that are in a header."""
KINDS: Final = ("", ".oldest", ".newer")


def golden(name: str) -> bytes:
    """Return a golden record (or header), without the line break of its file."""
    return (GOLDEN / f"{name}.v1.json").read_bytes().rstrip(b"\n")


def wire(name: str, *, prefix: str = "") -> Record:
    """Return a whole record as it is in Kafka. ``prefix`` is put before its topic."""
    document = json.loads((GOLDEN / "wire" / f"{name}.v1.json").read_bytes())
    return record(
        _bytes(document["value"]),
        topic=prefix + document["topic"],
        key=None if document["key"] is None else _bytes(document["key"]),
        headers=[(header, _bytes(content)) for header, content in document["headers"]],
        partition=0,
    )


def as_kind(name: str, kind: str, *, prefix: str = "", **changes: Any) -> Record:
    """Return the whole record with its metadata as another producer writes it: the oldest, or one of a newer release."""
    whole = wire(name, prefix=prefix)
    metadata = golden(f"{name}{kind}")
    if changes:
        metadata = json.dumps(json.loads(metadata) | changes).encode()
    if name not in HEADERS:
        return whole._replace(value=metadata)
    others = [header for header in whole.headers if header[0] != HEADERS[name]]
    return whole._replace(headers=[*others, (HEADERS[name], metadata)])


def _bytes(text: str) -> bytes:
    encoded = text.removeprefix("base64:")
    return base64.b64decode(encoded) if encoded != text else text.encode()
