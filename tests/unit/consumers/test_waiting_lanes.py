"""How long the head of a lane waits, and which failures count against it."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import cast

from consumers.ordered_values import OrderedContext
from consumers.waiting_lanes import WaitingLanes
from pipeline.core.held_ledger import OffsetBound
from pipeline.core.local_faults import LocalFault
from pipeline.delivery.delivery import Delivery, ParkedDelivery
from schemas.delivery import DeliveryRecord, Trigger
from tests.unit.delivery.delivery_case import BODY, endpoint
from tests.unit.sample_events import META

LANE, HEAD = b"7/R1", OffsetBound(0, 0)
DUE = DeliveryRecord(event=META, endpoint_id=7, attempt=1, trigger=Trigger.EVENT)


def test_only_own_faults_are_counted() -> None:
    """A lane behind a rate limit is refused a hundred times in a quarter of an hour. That must not count as an unresolvable
    name.
    """
    context = SimpleNamespace(now_ms=lambda: 0.0, steady=lambda: 0.0)
    lanes = WaitingLanes(cast("OrderedContext", context))

    def park(reason: str) -> float:
        lanes.park(LANE, DUE, HEAD, ParkedDelivery(Delivery(META, BODY, endpoint()), reason, timedelta(seconds=60)))
        [head] = lanes.heads
        return (head.due_ms or 0) / 1000

    assert [park("rate_limited") for _ in range(200)][:4] == [1, 2, 4, 8]
    assert lanes.parked(LANE) == 0
    assert park(LocalFault.RESOLVER.value) == 60
    assert lanes.parked(LANE) == 1
    lanes.retry(LANE, DUE, HEAD, 5)
    assert (lanes.parked(LANE), park("rate_limited")) == (0, 1)


def test_a_lane_tries_again_after_a_minute_however_long_its_circuit_is_open() -> None:
    """The endpoint may be changed or resumed meanwhile, which closes the circuit."""
    context = SimpleNamespace(now_ms=lambda: 0.0, steady=lambda: 0.0)
    lanes = WaitingLanes(cast("OrderedContext", context))
    for number in range(2_000):
        parked = ParkedDelivery(Delivery(META, BODY, endpoint()), "circuit_open", timedelta(hours=6), timedelta(hours=6))
        lanes.park(b"7/R%d" % number, DUE, HEAD, parked)
    waits = [(head.due_ms or 0) / 1000 for head in lanes.heads]
    assert (waits[0], waits[-1]) == (60, 60 + 1_999 / 200)
