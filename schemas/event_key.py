"""The headers ``oms-event-key`` and ``oms-event-sequence``, by which a receiver can order events. Pure.

An event key is ``<topic>/<partition>/<record key>``, such as ``oms.orders/3/R123456789``. The sequence is the event's offset.
Kafka's offsets rise only within a partition, so the key contains the partition: among events with one event key, a later one
always has a higher sequence. That does not hold for the record key alone if an order has events in two topics, or if partitions
were added.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final
from urllib.parse import quote_from_bytes

EVENT_KEY_HEADER: Final = "oms-event-key"
EVENT_SEQUENCE_HEADER: Final = "oms-event-sequence"

MAX_RECORD_KEY: Final = 255
"""The maximum length of a percent-encoded record key; a longer one is replaced by its digest. Receivers refuse long headers."""
MAX_EVENT_KEY: Final = 600
"""The maximum length of an event key: a topic's name, a partition, a record key."""

_USUAL: Final = re.compile(rb"[A-Za-z0-9._~-]{1,255}")


def event_key(topic: str, partition: int, key: bytes | None) -> str | None:
    """The event key of a record; ``topic`` is without the deployment's prefix. None for a record without a key.

    It is always safe in a header: everything except letters, digits and ``-._~`` is percent-encoded.
    """
    return f"{topic}/{partition}/{_encoded(key)}" if key else None


def record_key(event_key: str) -> str:
    """The encoded record key in an event key: the same in all topics and partitions."""
    return event_key.rpartition("/")[2]


def source_partition(event_key: str) -> str:
    """The topic and the partition in an event key: ``oms.orders/3``."""
    return event_key.rpartition("/")[0]


def _encoded(key: bytes) -> str:
    if _USUAL.fullmatch(key):
        return key.decode("ascii")
    encoded = quote_from_bytes(key, safe="") if len(key) <= MAX_RECORD_KEY else ""
    # No encoded key contains a colon, so no producer can choose the digest of another's key.
    return encoded if encoded and len(encoded) <= MAX_RECORD_KEY else f"sha256:{sha256(key).hexdigest()}"
