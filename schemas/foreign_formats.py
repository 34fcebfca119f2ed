"""Tells a producer what its value looks like, if it is not an event: Avro, Protobuf, gzip, UTF-16, one event per line, …

Nothing here decides whether a record is used. It only makes a dead letter say more than "not JSON". Pure; examines the first
bytes, and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MAGIC: Final = b"\x00"
_EXAMINED_BYTES: Final = 64 * 1024
"""How many bytes of a binary value are examined."""

_JSON: Final = "Publish JSON in UTF-8."
_REGISTRY: Final = "Publish JSON (a JSON Schema serializer may frame it), or put a converter before the topic."
_COMPRESSED: Final = "Publish the event as it is, and let the Kafka client compress (compression.type)."

_SIGNATURES: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"\x1f\x8b", "gzip", _COMPRESSED),
    (b"\x28\xb5\x2f\xfd", "zstd", _COMPRESSED),
    (b"\x04\x22\x4d\x18", "lz4", _COMPRESSED),
    (b"\x82SNAPPY", "snappy", _COMPRESSED),
    (b"\xff\x06\x00\x00sNaPpY", "snappy", _COMPRESSED),
    (b"BZh", "bzip2", _COMPRESSED),
    (b"PK\x03\x04", "a zip archive", _COMPRESSED),
    (b"\xff\xfe\x00\x00", "UTF-32", _JSON),
    (b"\x00\x00\xfe\xff", "UTF-32", _JSON),
    (b"\xff\xfe", "UTF-16", _JSON),
    (b"\xfe\xff", "UTF-16", _JSON),
    (b"\xef\xbb\xbf", "text that begins with a byte order mark (BOM)", "Publish UTF-8 without it."),
    (b"Obj\x01", "an Avro file", _JSON),
    (b"\xc3\x01", "Avro (single-object encoding)", _JSON),
    (b"\xac\xed\x00\x05", "a serialized Java object", _JSON),
    (b"\x80\x04\x95", "a Python pickle", _JSON),
    (b"\x80\x05\x95", "a Python pickle", _JSON),
    (b"\x03\x00", "a record framed by the AWS Glue schema registry", _JSON),
    (b"\x03\x05", "a record framed by the AWS Glue schema registry", _JSON),
)
_TEXTS: Final = (
    (re.compile(rb"<"), f"XML or HTML. {_JSON}"),
    (re.compile(rb"eyJ[A-Za-z0-9+/_=-]{8,}"), "JSON in Base64. Publish the JSON itself."),
    (re.compile(rb"\{'|\{:|\{\"[^\"]*\" *=>"), 'the text of a Python or Ruby object. Write it as JSON ("id": "evt-1").'),
)

_WHOLE_ESCAPES: Final = re.compile(rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF_A_PAIR: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def detect_format(value: bytes) -> str | None:
    """``gzip. Publish …``: what the value seems to be, and what to do; None if it is not recognized."""
    for signature, name, advice in _SIGNATURES:
        if value.startswith(signature):
            return f"{name}. {advice}"
    detectors: tuple[Callable[[bytes], str | None], ...] = (
        (_utf_16, _framed, _text) if _is_text(value) else (_utf_16, _framed, _binary)
    )
    for detect in detectors:
        if found := detect(value):
            return found
    return None


def _is_text(value: bytes) -> bool:
    try:
        value[:_EXAMINED_BYTES].decode()
    except UnicodeDecodeError as error:
        return error.end >= _EXAMINED_BYTES - 4 and len(value) > _EXAMINED_BYTES
    return b"\x00" not in value[:_EXAMINED_BYTES]


def _utf_16(value: bytes) -> str | None:
    """Without a byte order mark: every other byte at the beginning of a JSON text is zero."""
    if len(value) < 4:
        return None
    first = value[:4]
    if first[1] == first[3] == 0 and first[0] in b'{["' and first[2]:
        return f"UTF-16. {_JSON}"
    if first[0] == first[2] == 0 and first[1] in b'{["' and first[3] and len(value) % 2 == 0:
        return f"UTF-16. {_JSON}"
    return None


def _framed(value: bytes) -> str | None:
    """A schema registry's magic byte and schema id before something that is not JSON (JSON is accepted with or without them)."""
    if not value.startswith(_MAGIC) or len(value) < 6:
        return None
    schema_id, content = int.from_bytes(value[1:5], "big"), value[5 : 5 + _EXAMINED_BYTES]
    # Before a Protobuf message, Confluent's serializer writes its index in the schema: a zero for the first.
    kind = "Protobuf" if content[0] == 0 and len(content) > 1 and _is_protobuf(content[1:]) else "Avro"
    return f"{kind} in Confluent framing (magic byte 0, schema id {schema_id}). {_REGISTRY}"


def _binary(value: bytes) -> str | None:
    if len(value) >= 5 and int.from_bytes(value[:4], "little") == len(value) and value[-1] == 0:
        return f"BSON. {_JSON}"
    if value[:1] and (0x80 <= value[0] <= 0x8F or value[0] in (0xDE, 0xDF)) and _is_messagepack(value):
        return f"MessagePack. {_JSON}"
    if len(value) > 1 and 0xA1 <= value[0] <= 0xBF and 0x60 <= value[1] <= 0x7B:
        return f"CBOR. {_JSON}"
    if _is_protobuf(value[:_EXAMINED_BYTES], is_whole=len(value) <= _EXAMINED_BYTES):
        return f"Protobuf. {_JSON}"
    return None


def _is_messagepack(value: bytes) -> bool:
    try:
        return isinstance(msgspec.msgpack.decode(value[:_EXAMINED_BYTES] if len(value) > _EXAMINED_BYTES else value), dict)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return len(value) > _EXAMINED_BYTES


def _is_protobuf(content: bytes, *, is_whole: bool = True) -> bool:
    """Whether all bytes can be read as consecutive fields of a Protobuf message."""
    position, fields = 0, 0
    while position < len(content):
        tag, position = _varint(content, position)
        number, wire_type = tag >> 3, tag & 7
        if position < 0 or not 1 <= number <= 10_000:
            return False
        if wire_type == 0:
            _, position = _varint(content, position)
        elif wire_type == 2:
            length, position = _varint(content, position)
            position = position + length if position >= 0 else -1
        elif wire_type in (1, 5):
            position += 8 if wire_type == 1 else 4
        else:
            return False
        if position < 0 or (position > len(content) and is_whole):
            return False
        fields += 1
    return fields > 0


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """The number, and where it ends; -1 if it does not."""
    number = 0
    for index in range(10):
        if position + index >= len(content):
            return 0, -1
        byte = content[position + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, position + index + 1
    return 0, -1


def _text(value: bytes) -> str | None:
    text = value.strip()
    if not text:
        return f"nothing but white space. {_JSON}" if value else f"an empty value. {_JSON}"
    for beginning, name in _TEXTS:
        if beginning.match(text):
            return name
    detect = _OF_JSON.get(text[:1])
    return detect(text) if detect is not None else None


def _json_string(text: bytes) -> str | None:
    try:
        inside = msgspec.json.decode(text, type=str).strip()
        if inside.startswith(("{", "[", '"')):
            _ANY.decode(inside.encode())
            return "a JSON string that contains JSON: it was encoded twice. Publish the JSON itself."
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return "a JSON string. Publish a JSON object." if not inside.startswith("eyJ") else "JSON in Base64. Publish the JSON itself."


def _list(text: bytes) -> str | None:
    try:
        number = len(_LIST.decode(text))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return f"a list of {number:,}. Publish each event as its own record." if number else None


def _lines(text: bytes) -> str | None:
    """One JSON text per line (NDJSON), or several with nothing between them."""
    lines = [line for line in text.split(b"\n") if line.strip()]
    if len(lines) < 2 and b"}{" not in text:
        return None
    try:
        _ANY.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        pass
    else:
        return None
    if len(lines) > 1 and all(line.strip().startswith(b"{") and line.strip().endswith(b"}") for line in lines[:100]):
        return f"{len(lines):,} JSON objects, one per line (NDJSON). Publish each event as its own record."
    return "several JSON objects, one after the other. Publish each event as its own record." if b"}{" in text else None


def _object(text: bytes) -> str | None:
    try:
        members = _MEMBERS.decode(text)
        if members.keys() >= {"schema", "payload"}:
            members = _MEMBERS.decode(members["payload"])
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    if "op" in members and ("after" in members or "before" in members):
        return (
            "a Debezium change event of a table. Route the outbox through "
            "transforms.outbox.type=io.debezium.transforms.outbox.EventRouter."
        )
    return None


def _half_a_pair(text: bytes) -> str | None:
    """A text that the producer cut in the middle of an emoji."""
    found = _HALF_A_PAIR.search(_WHOLE_ESCAPES.sub(b" ", text))
    if found is None:
        return None
    return f"JSON with half of a character ({found[0].decode()}), such as a text cut inside an emoji. Cut it between characters."


def _several_or_another(text: bytes) -> str | None:
    return _lines(text) or _object(text) or _half_a_pair(text)


_OF_JSON: Final[dict[bytes, Callable[[bytes], str | None]]] = {b'"': _json_string, b"[": _list, b"{": _several_or_another}
