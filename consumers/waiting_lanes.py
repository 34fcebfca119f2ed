"""The lanes of one partition that wait: why, since when, and when to try again; and the facts to report about them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from msgspec import structs

from consumers.ordered_values import HeldBack, OrderedContext
from pipeline.core.held_ledger import OffsetBound
from pipeline.core.lane_ledger import LaneLedger
from pipeline.core.local_faults import LocalFault
from pipeline.delivery.delivery import ParkedDelivery
from pipeline.delivery.holding import from_milliseconds, warning_lead_time
from schemas.delivery import DeliveryRecord
from schemas.health import HealthFact, HealthRecord

_MIN_WAIT_S: Final = 1.0
_MAX_WAIT_S: Final = 10.0
"""A head that is not admitted is tried again after one second, later after up to this long, or when its circuit allows a probe."""
_MAX_CIRCUIT_WAIT_S: Final = 60.0
"""A head asks again at least this often while a circuit is open: a change of the endpoint, or another process, may have closed it."""
_ASK_A_SECOND: Final = 200
"""With thousands of lanes that are not admitted, each is tried less often: a try takes time, too."""
_OWN_FAULTS: Final = frozenset(fault.value for fault in LocalFault)
_NOT_ACTIVE: Final = "endpoint_not_active"


class WaitingLanes:
    """One for each processor. A lane is added when its head does not start, and removed (:meth:`ended`) when the head has ended."""

    def __init__(self, context: OrderedContext) -> None:
        self._context = context
        self._heads: dict[bytes, HeldBack] = {}
        self._due: list[tuple[float, int, bytes]] = []
        self._order = itertools.count()
        self._blocked: dict[int, set[bytes]] = {}
        """Lanes whose endpoint is paused, disabled or not known yet, by endpoint."""
        self._refused: dict[bytes, int] = {}
        """How often the head was not admitted since its last attempt."""
        self._own_faults: dict[bytes, int] = {}
        """The same for faults on our side."""

    def __len__(self) -> int:
        return len(self._heads)

    @property
    def heads(self) -> list[HeldBack]:
        """What blocks lanes."""
        return list(self._heads.values())

    def parked(self, key: bytes) -> int:
        """How often a head was parked since its last attempt, by a fault on our side: a refusal is no sign that the endpoint is at
        fault after all (see `PARKED_IN_DOUBT`), and a lane may be refused every few seconds.
        """
        return self._own_faults.get(key, 0)

    def wait(self, key: bytes, due: DeliveryRecord, head: OffsetBound, reason: str, seconds: float) -> None:
        """The head starts after ``seconds``."""
        self._hold_back(key, due, head, reason, round(self._context.now_ms() + seconds * 1000))
        heapq.heappush(self._due, (self._context.steady() + max(0.0, seconds), next(self._order), key))

    def retry(self, key: bytes, due: DeliveryRecord, head: OffsetBound, seconds: float) -> None:
        """The head has failed, and is retried after ``seconds``."""
        self._forget_parking(key)
        self.wait(key, due, head, "retry", seconds)

    def park(self, key: bytes, due: DeliveryRecord, head: OffsetBound, parked: ParkedDelivery) -> None:
        """The head starts later, without using up an attempt. Waiting here costs nothing, so it tries again sooner than from a
        delay topic.
        """
        if parked.reason in _OWN_FAULTS:
            self._own_faults[key] = self.parked(key) + 1
            seconds = parked.delay.total_seconds()
        else:
            times = self._refused.get(key, 0)
            self._refused[key] = times + 1
            longer = len(self._heads) / _ASK_A_SECOND
            at_least = min(parked.at_least.total_seconds(), _MAX_CIRCUIT_WAIT_S + longer)
            seconds = max(at_least, min(_MIN_WAIT_S * 2 ** min(times, 10), _MAX_WAIT_S + longer))
        self.wait(key, due, head, parked.reason, seconds)

    def block(self, key: bytes, due: DeliveryRecord, head: OffsetBound) -> None:
        """The head starts when its endpoint is active."""
        self._hold_back(key, due, head, _NOT_ACTIVE, None)
        self._blocked.setdefault(due.endpoint_id, set()).add(key)

    def ended(self, key: bytes) -> None:
        self._forget_parking(key)
        self._heads.pop(key, None)

    def _forget_parking(self, key: bytes) -> None:
        self._refused.pop(key, None)
        self._own_faults.pop(key, None)

    def over(self) -> list[bytes]:
        """Lanes whose wait is over: it is time, or the endpoint is active again or deleted, or the head has waited for too long."""
        now, found = self._context.steady(), []
        while self._due and self._due[0][0] <= now:
            found.append(heapq.heappop(self._due)[2])
        return found + self._unblocked()

    def facts(self, ledger: LaneLedger, partition: int) -> list[HealthRecord]:
        """The facts to report: how many deliveries wait, for which endpoint and why, if that differs from the last report."""
        lanes: dict[int, list[bytes]] = {}
        for key, one in self._heads.items():
            lanes.setdefault(one.endpoint_id, []).append(key)
        known = self._context.health.ordered_in(partition)
        concerned = lanes.keys() | {endpoint_id for endpoint_id, fact in known.items() if fact.held}
        facts = [self._describe(one, lanes.get(one, ()), ledger, partition) for one in sorted(concerned)]
        return [fact for fact in facts if _reported_values(fact) != _reported_values(known.get(fact.endpoint_id))]

    def overdue_seconds(self) -> float:
        """By how much a head has waited longer than all retries of its endpoint take, at most; 0 if none has."""
        now, late = self._context.now_ms() / 1000, 0.0
        for endpoint_id, since_ms in self._oldest(is_active=True).items():
            endpoint = self._context.registry.receiver(endpoint_id)
            if endpoint is not None:
                delays = self._context.service.policies.schedule_of(endpoint.record.retry_policy).delays
                late = max(late, now - since_ms / 1000 - sum(delays, timedelta(0)).total_seconds())
        return late

    def expiring(self) -> int:
        """For how many endpoints that are not active the oldest head expires soon."""
        hold = self._context.hold
        soon = self._context.now_ms() - (hold - warning_lead_time(hold)) / timedelta(milliseconds=1)
        return sum(since_ms <= soon for since_ms in self._oldest(is_active=False).values())

    def _oldest(self, *, is_active: bool) -> dict[int, int]:
        """Since when the oldest head of each endpoint that is active, or is not, has been waiting (milliseconds since 1970)."""
        oldest: dict[int, int] = {}
        for head in self._heads.values():
            if (head.due_ms is not None) is is_active:
                oldest[head.endpoint_id] = min(head.since_ms, oldest.get(head.endpoint_id, head.since_ms))
        return oldest

    def _hold_back(self, key: bytes, due: DeliveryRecord, head: OffsetBound, reason: str, due_ms: int | None) -> None:
        self._heads[key] = HeldBack(due.endpoint_id, due.event.id, due.event.key or "", head.time_ms, reason, due_ms)

    def _unblocked(self) -> list[bytes]:
        registry, found = self._context.registry, []
        too_old = self._context.now_ms() - self._context.hold / timedelta(milliseconds=1)
        for endpoint_id, keys in list(self._blocked.items()):
            endpoint = registry.receiver(endpoint_id)
            if registry.is_deleted(endpoint_id) if endpoint is None else endpoint.active:
                going = list(keys)
            elif endpoint is not None and self._context.is_time_certain():
                going = [key for key in keys if self._heads[key].since_ms <= too_old]
            else:
                continue
            found += going
            keys.difference_update(going)
            if not keys:
                del self._blocked[endpoint_id]
        return found

    def _describe(self, endpoint_id: int, keys: Iterable[bytes], ledger: LaneLedger, partition: int) -> HealthRecord:
        found = [(self._heads[key], key) for key in keys]
        endpoint = self._context.registry.get(endpoint_id)
        fact = HealthRecord(
            endpoint_id=endpoint_id,
            endpoint_version=endpoint.record.version if endpoint is not None else 0,
            fact=HealthFact.ORDERED,
            at=self._context.clock(),
            partition=partition,
        )
        if not found:
            return fact
        oldest = min((one for one, _ in found), key=lambda one: one.since_ms)
        overflow = ledger.overflows.get(endpoint_id)
        waiting = sum(ledger.depth(key) for _, key in found) + (overflow.count if overflow is not None else 0)
        return structs.replace(
            fact,
            held=waiting,
            count=len(found),
            since=from_milliseconds(oldest.since_ms),
            event_id=oldest.event_id,
            detail=oldest.event_key,
            reason=oldest.reason,
            until=None if oldest.due_ms is None else from_milliseconds(oldest.due_ms),
        )


def _reported_values(fact: HealthRecord | None) -> object:
    return None if fact is None or not fact.held else (fact.held, fact.count, fact.since, fact.event_id, fact.reason, fact.until)
