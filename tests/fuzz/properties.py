"""Properties that hold for any input. Each function takes an input and returns or fails; hypothesis and atheris share them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final
from unittest.mock import patch
from urllib.parse import parse_qsl

import msgspec

from pipeline.core.offsets import Commit, decode_metadata, encode_metadata
from pipeline.core.search import MAX_PER_PAGE, SearchLimitError, parse_query
from pipeline.store.bound_values import BoundValues
from pipeline.store.search.conditions import event_where, order_by, where
from schemas.attempt import Attempt
from schemas.codec import MAX_METADATA_BYTES, InvalidRecordError, format_time, from_json, to_json
from schemas.delivery import DeadLetter, DeadLetterReason, DeliveryRecord, Dispatch
from schemas.endpoint import EndpointRecord
from schemas.event import MAX_REFERENCE, MAX_REFERENCES, EventType
from schemas.event_codec import DecodedEvent, decode_event, webhook_body
from schemas.event_fast_path import decode_event_fast
from schemas.own_records import OwnRecord, members_of
from tests.unit.core.equality_oracle import accepts

MAX_EVENT_BYTES: Final = 6 * 1024 * 1024
RECORDS: Final[dict[str, type[OwnRecord]]] = {
    "attempt": Attempt,
    "delivery": DeliveryRecord,
    "dispatch": Dispatch,
    "dead_letter": DeadLetter,
    "endpoint": EndpointRecord,
}
_DIGITS_OF_NO_INT: Final = 4300
"""Python's own bound on the digits of a whole number."""

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def check_event(value: bytes) -> str:
    """Check that an event is decoded, or refused with a reason and a sentence; returns "" or the reason."""
    decoded = _decoded(value)
    with patch("schemas.event_codec.decode_event_fast", lambda *_: None):
        by_the_models = _decoded(value)
    if decode_event_fast(value) is None or not (isinstance(by_the_models, InvalidRecordError) and _has_a_giant_number(value)):
        assert _told(decoded) == _told(by_the_models), "the fast path and the models disagree"
    if isinstance(decoded, InvalidRecordError):
        return decoded.reason.value
    _check_meta(decoded)
    _check_body(value, decoded)
    accepts({"line_items.variant.sku": ("x", None), "number": ("R1",), "a.b": (1, True)}, decoded.payload())
    return ""


def _decoded(value: bytes) -> DecodedEvent | InvalidRecordError:
    try:
        return decode_event(value, max_bytes=MAX_EVENT_BYTES)
    except InvalidRecordError as error:
        _check_refusal(error)
        return error


def _told(decoded: DecodedEvent | InvalidRecordError) -> object:
    return (decoded.reason, str(decoded)) if isinstance(decoded, InvalidRecordError) else decoded


def _check_refusal(error: InvalidRecordError) -> None:
    assert isinstance(error.reason, DeadLetterReason)
    _check_sentence(error)


def _check_sentence(error: Exception) -> None:
    assert str(error).endswith(".")
    str(error).encode()


def _has_a_giant_number(value: bytes) -> bool:
    run = 0
    for byte in value:
        run = run + 1 if 0x30 <= byte <= 0x39 else 0
        if run >= _DIGITS_OF_NO_INT:
            return True
    return False


def _check_meta(decoded: DecodedEvent) -> None:
    meta = decoded.meta
    assert meta.event_name in set(EventType)
    for references in (meta.shipment_numbers, meta.skus):
        assert len(references) <= MAX_REFERENCES
        assert all(0 < len(reference) <= MAX_REFERENCE for reference in references)
    # What is known about an event is part of every record about it.
    assert from_json(to_json(DeliveryRecord(event=meta, endpoint_id=1, attempt=1)), DeliveryRecord).event == meta


def _check_body(value: bytes, decoded: DecodedEvent) -> None:
    """Check that the body is JSON with the data's original bytes, of an Order all but the token."""
    body = _members.decode(webhook_body(decoded))
    assert list(body) == ["id", "event_name", "created_at", "data"]
    assert json.loads(bytes(body["created_at"])) == format_time(decoded.meta.created_at)
    came, sent = bytes(_members.decode(value)["data"]), bytes(body["data"])
    if not decoded.meta.event_name.startswith("order_"):
        assert sent == came
        return
    wanted = {name: bytes(member) for name, member in _members.decode(came).items() if name != "token"}
    assert {name: bytes(member) for name, member in _members.decode(sent).items()} == wanted


def check_record(name: str, value: bytes | None) -> str:
    """Check that one of our records is read and written again without loss, or refused; returns "" or the reason."""
    model = RECORDS[name]
    try:
        record = from_json(value, model)
    except InvalidRecordError as error:
        _check_refusal(error)
        return error.reason.value
    written = to_json(record)
    if len(written) > MAX_METADATA_BYTES:  # it was nearly as large before, and now has its defaults
        return ""
    again = from_json(written, model)
    assert _same(members_of(again), members_of(record))
    assert to_json(again) == written
    return ""


def _same(left: Any, right: Any) -> bool:
    """Compare; a number that JSON cannot represent (1e999 in an unknown member) may become null."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(right, float) and not math.isfinite(right):
        return left is None
    return bool(left == right)


def check_query(text: str) -> int:
    """Check that a query string becomes SQL with bound parameters; returns the number of conditions."""
    return check_pairs(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))


def check_pairs(pairs: Iterable[tuple[str, str]]) -> int:
    """Check the same for decoded pairs. Beyond a bound, they are refused with a message, and contain no conditions."""
    try:
        query = parse_query(pairs)
    except SearchLimitError as error:
        _check_sentence(error)
        return 0
    assert 1 <= query.per_page <= MAX_PER_PAGE
    assert query.page >= 1
    parameters = BoundValues()
    candidates = " AND ".join(["1", *event_where(query.required, parameters)])
    statement = f"{where(query.required, parameters, candidates)} {order_by(query)}"
    statement.encode()
    json.dumps(parameters.values, allow_nan=False).encode()
    "".join(query.ignored).encode()
    return len(query.conditions)


def check_finished(offset: int, metadata: str | None) -> int:
    """Check that commit metadata is read in bounded memory, and never claims that unfinished offsets are finished."""
    kept = decode_metadata(offset, metadata)
    if kept is None:
        return 0
    finished, progress = kept
    assert len(finished) <= 1_000_000
    assert all(one >= offset for one in finished)
    assert all(each.offset >= offset and each.up_to >= 1 for each in progress)
    written = encode_metadata(Commit(offset, tuple(sorted(finished)), 0, progress=progress))
    again = decode_metadata(offset, written)
    assert again is not None
    assert again.finished <= finished
    assert {each.offset for each in again.progress} <= {each.offset for each in progress}
    return len(finished)
