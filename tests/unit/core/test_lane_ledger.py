"""What a ledger of lanes keeps while one head waits for days: one endpoint is paused, and deliveries to others come and go."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from pipeline.core import lane_ledger
from pipeline.core.held_ledger import OffsetBound
from pipeline.core.lane_ledger import LaneLedger, Placement, Source

HOUR = 3600.0


@pytest.fixture
def ledger() -> LaneLedger:
    """A delivery to endpoint 7 waits at offset 0."""
    ledger = LaneLedger({})
    assert ledger.add(b"7/R0", 7, OffsetBound(0, 0), Source("oms.orders/0", 0, 0)) is Placement.HEAD
    return ledger


def come_and_go(ledger: LaneLedger, offsets: range, key: str, now: float = 0.0) -> Iterator[bytes]:
    """Deliveries to endpoint 8 that are finished at once; ``key`` is formatted with the offset."""
    for offset in offsets:
        lane, source = key.format(offset).encode(), Source("oms.orders/0", offset, offset)
        assert ledger.add(lane, 8, OffsetBound(offset, offset), source) is Placement.HEAD
        ledger.settle(ledger.finish(lane, source, now))
        yield lane


def size(ledger: LaneLedger) -> int:
    """Return the bytes of its containers, without their content."""
    return sum(sys.getsizeof(one) for one in vars(ledger).values())


def test_deliveries_finished_behind_a_waiting_head_take_no_more_memory(ledger: LaneLedger) -> None:
    for _ in come_and_go(ledger, range(1, 3_000), "8/R1"):
        pass
    before = size(ledger)
    for _ in come_and_go(ledger, range(3_000, 20_000), "8/R1"):
        pass

    assert size(ledger) <= 2 * before
    assert ledger.floor == 0, "the waiting head"
    ledger.settle(ledger.finish(b"7/R0", None, 0.0))
    assert ledger.floor == 20_000


def test_the_floor_is_the_lowest_waiting_offset_whatever_was_dropped(monkeypatch: pytest.MonkeyPatch, ledger: LaneLedger) -> None:
    monkeypatch.setattr(lane_ledger, "_MAX_ENDED", 2)
    for offset in range(1, 30):
        ledger.add(f"8/R{offset}".encode(), 8, OffsetBound(offset, offset), None)
    for offset in [*range(29, 15, -1), *range(1, 13), 15]:
        ledger.settle(ledger.finish(f"8/R{offset}".encode(), None, 0.0))
    assert ledger.floor == 0
    for offset, lane, floor in ((0, b"7/R0", 13), (13, b"8/R13", 14), (14, b"8/R14", 30)):
        ledger.settle(ledger.finish(lane, None, 0.0))
        assert ledger.floor == floor, offset


def test_lanes_that_must_be_remembered_are_evicted_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch, ledger: LaneLedger
) -> None:
    monkeypatch.setattr(lane_ledger, "MAX_IDLE", 10)
    keys = list(come_and_go(ledger, range(1, 101), "8/R{}"))
    assert ledger.forgettable(HOUR, 0) == [], "something below them waits"
    ledger.evict_idle(0.0)
    assert all(ledger.forget(key) for key in keys[:1]), "they have not been idle for long"
    ledger.evict_idle(HOUR)

    remembered = [key for key in keys if ledger.forget(key)]
    assert remembered == keys[-10:], "the youngest"


def test_a_lane_is_remembered_until_its_last_record_is_read_again(monkeypatch: pytest.MonkeyPatch, ledger: LaneLedger) -> None:
    """A new processor starts at the floor and reads again what has ended above it."""
    monkeypatch.setattr(lane_ledger, "MAX_IDLE", 0)
    source = Source("oms.orders/0", 1, 1)
    ledger.add(b"8/R1", 8, OffsetBound(1, 1), source)
    successor = LaneLedger({b"8/R1": ledger.finish(b"8/R1", source, 0.0)})
    successor.evict_idle(HOUR)
    successor.add(b"7/R0", 7, OffsetBound(0, 0), None)
    successor.evict_idle(HOUR)
    assert successor.add(b"8/R1", 8, OffsetBound(1, 1), source) is Placement.ENDED

    successor.evict_idle(HOUR)
    assert not successor.forget(b"8/R1"), "it was evicted"


def test_lanes_of_an_endpoint_whose_records_are_read_again_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, a delivery that a fan-out wrote twice would be sent twice."""
    monkeypatch.setattr(lane_ledger, "MAX_IDLE", 0)
    ledger = LaneLedger({}, most_places=1)
    ledger.add(b"8/R1", 8, OffsetBound(0, 0), Source("oms.orders/0", 0, 0))
    ledger.settle(ledger.finish(b"8/R1", Source("oms.orders/0", 0, 0), 0.0))
    ledger.add(b"8/R2", 8, OffsetBound(1, 1), None)
    assert ledger.add(b"8/R2", 8, OffsetBound(2, 2), None) is Placement.LATER
    assert ledger.add(b"8/R1", 8, OffsetBound(3, 3), Source("oms.orders/0", 0, 0)) is Placement.LATER
    ledger.evict_idle(HOUR)

    ledger.settle(ledger.finish(b"8/R2", None, 0.0))
    assert ledger.add_again(b"8/R2", 8, OffsetBound(2, 2), None) is Placement.HEAD
    assert ledger.add_again(b"8/R1", 8, OffsetBound(3, 3), Source("oms.orders/0", 0, 0)) is Placement.ENDED
