"""Hostile events: each is decoded, or refused with a reason; the fast path and the models never disagree.

Each test takes a second or two of CPU: it tries 200 events.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import InvalidRecordError
from schemas.event_codec import webhook_body
from schemas.event_reader import EventReader
from schemas.event_types import BUILT_IN
from schemas.producer_forms import ProducerForm
from schemas.topics import Topics
from tests.fuzz.properties import check_event
from tests.fuzz.strategies import EVENTS, FUZZ
from tests.unit.schemas.producer_records import AS_PUBLISHED, Published

_NAMES: Final = [
    "id",
    "eventType",
    "occurredAt",
    "type",
    "ce_id",
    "ce_type",
    "ce_specversion",
    "ce_time",
    "content-type",
    "payload",
]
_KNOWN: Final = [content for record in AS_PUBLISHED.values() for _, content in record.headers]
_HEADERS: Final = st.lists(st.tuples(st.sampled_from(_NAMES), st.binary(max_size=30) | st.sampled_from(_KNOWN)), max_size=5)
_VALUES: Final = st.sampled_from([record.value or b"" for record in AS_PUBLISHED.values()])
_CUT: Final = st.builds(lambda value, start, end: value[start : len(value) - end], _VALUES, st.integers(0, 9), st.integers(0, 9))


@FUZZ
@given(EVENTS)
def test_an_event_is_decoded_or_refused_with_a_reason(value: bytes) -> None:
    check_event(value)


@FUZZ
@given(EVENTS | _VALUES | _CUT | st.binary(max_size=60), _HEADERS, st.sampled_from(ProducerForm), st.binary(max_size=9))
def test_a_record_of_any_form_is_read_or_refused(
    value: bytes, headers: list[tuple[str, bytes]], form: ProducerForm, key: bytes
) -> None:
    reader = EventReader(BUILT_IN, Topics([]), max_bytes=6 * 1024 * 1024, forms={"oms.orders": form})
    with suppress(InvalidRecordError):
        event = reader.read(Published(key, value, headers), "oms.orders")
        assert event.meta.event_name.startswith("order_")
        assert webhook_body(event)
