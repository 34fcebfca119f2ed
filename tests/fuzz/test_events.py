"""Hostile events: each is decoded, or refused with a reason; the quick way and the models never disagree."""

from __future__ import annotations

from hypothesis import given

from tests.fuzz.properties import check_event
from tests.fuzz.strategies import EVENTS, FUZZ


@FUZZ
@given(EVENTS)
def test_an_event_is_decoded_or_refused_with_a_reason(value: bytes) -> None:
    check_event(value)
