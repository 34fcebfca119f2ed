"""Records as other producers write them: those of the ``cloudevents`` package, and those that Debezium documents."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from cloudevents.core.bindings import kafka as binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.http import CloudEvent as OlderCloudEvent
from cloudevents.v1.kafka import conversion as older_binding

AT: Final = datetime(2026, 3, 2, 15, 4, 0, 512_000, tzinfo=UTC)
PAYLOAD: Final = '{"number": "R1",  "total":"60.250", "note": "caf\\u00e9", "n": 1.10}'
"""With spaces and spellings that a parser would not preserve."""
ENVELOPE: Final = f'{{"id":"evt-1","event_name":"order_completed","occurred_at":"2026-03-02T15:04:00.512Z","data":{PAYLOAD}}}'
_ATTRIBUTES: Final[dict[str, Any]] = {
    "id": "evt-1",
    "source": "/shop",
    "type": "com.example.order_completed",
    "time": AT,
    "datacontenttype": "application/json",
    "partitionkey": "R1",
}
_OUTBOX: Final = [("id", b"evt-1"), ("eventType", b"order_completed"), ("occurredAt", b"2026-03-02T15:04:00.512Z")]
_STRING: Final = '{"type":"string","optional":false}'


class Published(NamedTuple):
    """A record, as the reader sees it."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int = 1_772_463_840_600


def _of_the_package(message: Any) -> Published:
    key = message.key.encode() if isinstance(message.key, str) else message.key
    value = message.value if isinstance(message.value, bytes) else message.value.encode()
    return Published(key, value, list(message.headers.items()))


def cloud_event(**attributes: Any) -> CloudEvent:
    """Return an event of the package with our attributes, except for these."""
    return CloudEvent(_ATTRIBUTES | attributes, json.loads(PAYLOAD))


def _older() -> OlderCloudEvent:
    return OlderCloudEvent(_ATTRIBUTES | {"time": AT.isoformat()}, json.loads(PAYLOAD))


def outbox(value: str, headers: list[tuple[str, bytes]] | None = None, key: bytes = b"R1") -> Published:
    """Return what Debezium's event router writes."""
    return Published(key, value.encode(), _OUTBOX if headers is None else headers)


def _connect(payload: str, schema: str = '{"type":"struct","fields":[],"optional":true}') -> str:
    return f'{{"schema":{schema},"payload":{payload}}}'


def framed(value: str, schema_id: int = 42) -> bytes:
    """Return the value as a JSON Schema serializer of a schema registry writes it."""
    return b"\x00" + schema_id.to_bytes(4, "big") + value.encode()


_BESIDE: Final = f'{{"payload":{PAYLOAD},"eventType":"order_completed","occurredAt":1772463840512}}'
_CONNECT_KEY: Final = b'{"schema":{"type":"string","optional":false},"payload":"R1"}'

AS_PUBLISHED: Final[dict[str, Published]] = {
    "outbox, StringConverter": outbox(PAYLOAD),
    "outbox, ByteArrayConverter or BinaryDataConverter": outbox(PAYLOAD),
    "outbox, JsonConverter, a string": outbox(json.dumps(PAYLOAD), key=b'"R1"'),
    "outbox, JsonConverter with a schema, a string": outbox(_connect(json.dumps(PAYLOAD), _STRING), key=_CONNECT_KEY),
    "outbox, expanded": outbox(
        PAYLOAD, [("id", b'"evt-1"'), ("eventType", b'"order_completed"'), ("occurredAt", b"1772463840512")]
    ),
    "outbox, expanded, with a schema": outbox(
        _connect(PAYLOAD),
        [(name, _connect(json.dumps(content.decode()), _STRING).encode()) for name, content in _OUTBOX],
        key=_CONNECT_KEY,
    ),
    "outbox, bytes as Base64": outbox(json.dumps(base64.b64encode(PAYLOAD.encode()).decode())),
    "outbox, columns in the envelope": outbox(_BESIDE, _OUTBOX[:1]),
    "outbox, columns in the envelope, with a schema": outbox(_connect(_BESIDE), _OUTBOX[:1]),
    "outbox, columns in the envelope, payload a string": outbox(_BESIDE.replace(PAYLOAD, json.dumps(PAYLOAD)), _OUTBOX[:1]),
    "outbox, our envelope in it": outbox(ENVELOPE, _OUTBOX[:1]),
    "outbox, our envelope as a string": outbox(json.dumps(ENVELOPE), _OUTBOX[:1]),
    "outbox, our envelope with a schema": outbox(_connect(json.dumps(ENVELOPE), _STRING), _OUTBOX[:1]),
    "Kafka Connect's JSON with a schema": outbox(_connect(ENVELOPE), []),
    "schema registry, our envelope": Published(b"R1", framed(ENVELOPE), []),
    "schema registry with long ids": Published(b"R1", b"\x00\x00\x00\x00\x00" + (7).to_bytes(4, "big") + ENVELOPE.encode(), []),
    "schema registry, outbox": Published(framed('"R1"'), framed(PAYLOAD), _OUTBOX),
    "CloudEvents, binary": Published(
        b"R1",
        PAYLOAD.encode(),
        [
            ("ce_specversion", b"1.0"),
            ("ce_id", b"evt-1"),
            ("ce_source", b"/shop"),
            ("ce_type", b"order_completed"),
            ("ce_time", b"2026-03-02T15:04:00.512Z"),
            ("content-type", b"application/json; charset=utf-8"),
        ],
    ),
    "CloudEvents, structured": Published(
        b"R1",
        f'{{"specversion":"1.0","id":"evt-1","source":"/shop","type":"com.example.order.completed.v1",'
        f'"time":"2026-03-02T16:04:00.512+01:00","datacontenttype":"application/json","data":{PAYLOAD}}}'.encode(),
        [("content-type", b"application/cloudevents+json; charset=UTF-8")],
    ),
    "CloudEvents, structured, Base64": Published(
        b"R1",
        json.dumps(
            {
                "specversion": "1.0",
                "id": "evt-1",
                "source": "/shop",
                "type": "order_completed",
                "time": "2026-03-02T15:04:00.512Z",
                "data_base64": base64.b64encode(PAYLOAD.encode()).decode(),
            }
        ).encode(),
        [],
    ),
}
"""Written so that the payload keeps its bytes: each is the same event."""

OF_THE_PACKAGE: Final[dict[str, Published]] = {
    "binary": _of_the_package(binding.to_binary(cloud_event(), JSONFormat())),
    "structured": _of_the_package(binding.to_structured(cloud_event(), JSONFormat())),
    "binary, release 1": _of_the_package(older_binding.to_binary(_older())),
    "structured, release 1": _of_the_package(older_binding.to_structured(_older())),
    "structured, release 1, bytes": _of_the_package(
        older_binding.to_structured(_older(), data_marshaller=lambda data: json.dumps(data).encode())
    ),
}
"""The package rewrites the payload."""
