"""The headers by which receivers order events."""

from __future__ import annotations

import re
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import InvalidRecordError, from_json
from schemas.custom_headers import check_headers, is_retired
from schemas.event import EventMeta
from schemas.event_key import MAX_EVENT_KEY, event_key, record_key, source_partition

_SAFE: Final = re.compile(r"[A-Za-z0-9._~%:/-]+")


def test_the_key_names_topic_partition_and_record_key() -> None:
    key = event_key("oms.orders", 3, b"R123456789")

    assert key == "oms.orders/3/R123456789"
    assert record_key(key) == "R123456789"
    assert source_partition(key) == "oms.orders/3"


@pytest.mark.parametrize("key", [None, b""])
def test_without_a_record_key_there_is_none(key: bytes | None) -> None:
    assert event_key("oms.orders", 3, key) is None


@given(st.binary(min_size=1, max_size=400))
def test_any_key_is_safe_in_a_header(key: bytes) -> None:
    made = event_key("oms.orders", 3, key)

    assert made is not None
    assert _SAFE.fullmatch(made)
    assert len(made) <= MAX_EVENT_KEY
    assert made.count("/") == 2


@given(st.sets(st.binary(min_size=1, max_size=400), min_size=2, max_size=2))
def test_two_keys_are_never_confused(keys: set[bytes]) -> None:
    assert len({event_key("t", 0, key) for key in keys}) == 2


def test_the_digest_of_a_long_key_cannot_be_forged_by_another_producer() -> None:
    long = event_key("t", 0, b"x" * 300)

    assert long is not None
    assert record_key(long).startswith("sha256:")
    assert event_key("t", 0, record_key(long).encode()) != long


@pytest.mark.parametrize("name", ["oms-event-key", "OMS-Event-Sequence", "oms_event_key"])
def test_custom_headers_must_not_have_these_names(name: str) -> None:
    with pytest.raises(ValueError, match="the sender sets it"):
        check_headers({name: "x"})
    assert is_retired(name)


def test_a_record_cannot_inject_a_line_break_into_a_header() -> None:
    meta = b'{"id":"e","event_name":"n","created_at":"2026-03-02T15:04:00Z","key":"a\\r\\nx: y","sequence":1}'

    with pytest.raises(InvalidRecordError, match="key"):
        from_json(meta, EventMeta)
