"""The check of runs in order finds planted errors, and the events of a run are valid."""

from __future__ import annotations

from schemas.event_codec import decode_event
from tests.faults.order import BAD, KEYS, Orders, inversions, percentile
from tests.faults.receivers import Request

PLACES = {"a1": ("R1", 0, 1), "a2": ("R1", 0, 5), "b1": ("R2", 0, 3), "moved": ("R1", 1, 0)}


def came(*events: str, path: str = "/erp") -> list[Request]:
    return [Request(float(number), path, event, 204, "") for number, event in enumerate(events)]


def test_an_event_behind_a_later_one_of_its_key_is_found() -> None:
    assert inversions(came("a1", "a2", "b1"), PLACES) == []
    assert inversions(came("a2", "b1", "a1"), PLACES) == [("/erp", "a1", "a2")]
    assert inversions(came("a1", "a2", "a1", "a1"), PLACES) == [("/erp", "a1", "a2"), ("/erp", "a1", "a2")]


def test_duplicates_other_endpoints_and_other_partitions_are_not_reported() -> None:
    assert inversions(came("a1", "a1", "a2", "a2"), PLACES) == []
    assert inversions([*came("a2"), *came("a1", path="/crm")], PLACES) == []
    assert inversions(came("a2", "moved"), PLACES) == []


def test_the_events_have_their_keys_in_turn_and_can_be_read() -> None:
    orders = Orders()
    events = [*orders.take(KEYS, bad=False), *orders.take(KEYS, bad=True)]

    assert [event.key for event in events[:KEYS]] == [event.key for event in events[KEYS:]]
    assert len({event.key for event in events}) == KEYS
    assert sum(BAD in event.value.decode() for event in events) == KEYS // 10
    for event in events[:3]:
        assert decode_event(event.value, max_bytes=10_000).meta.id == event.id


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert percentile([float(number) for number in range(100)], 0.5) == 50.0
