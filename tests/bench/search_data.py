"""Realistic attempts over a year: the simulated shop's events, each sent to a few endpoints, some with retries."""

from __future__ import annotations

import heapq
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from pipeline.devtools.simulator import CUSTOMERS, Shop
from pipeline.store.rows import Row, RowPosition, attempt_row, event_row
from schemas.attempt import Attempt, AttemptState, Outcome
from schemas.delivery import Dispatch, Trigger
from schemas.event_codec import decode_event, webhook_body

DAYS = 365
END = datetime(2026, 11, 1, tzinfo=UTC)
START = END - timedelta(days=DAYS)
ENDPOINTS = 20
ATTEMPTS_AN_EVENT = 2.6764
"""On average 2 endpoints; 15% of the notifications are tried 2, 3 or 6 times."""
ATTEMPTS_A_CUSTOMER = 500
"""A year of a customer who buys twice a month: some 30 orders with about six events each."""
DELAYS = (5, 65, 665, 4265, 25865)
KINDS = (
    "order number",
    "e-mail",
    "tracking number",
    "inside of a token",
    "street, other case",
    "name, not ASCII",
    "URL with slashes",
)


@dataclass
class Batch:
    """Events with their attempts, as rows."""

    events: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)


class Needles:
    """Texts from the bodies, with their times."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._seen: dict[str, list[tuple[datetime, str]]] = {kind: [] for kind in KINDS}
        self._count = 0

    def look(self, body: str, time: datetime) -> None:
        """Remember some of the texts of a body."""
        data: dict[str, Any] = json.loads(body)["data"]
        address = data.get("ship_address") or {}
        found = {
            "order number": data.get("order_id") or data.get("number"),
            "e-mail": data.get("email"),
            "tracking number": data.get("tracking"),
            "inside of a token": (data.get("tracking") or "")[3:10],
            "street, other case": (address.get("address1") or "").upper(),
            "name, not ASCII": "" if (name := address.get("name") or "").isascii() else name,
            "URL with slashes": (data.get("tracking_url") or "").removeprefix("https:"),
        }
        for kind, text in found.items():
            if text:
                self._seen[kind].append((time, text))

    def of(self, kind: str, since: datetime, count: int) -> list[str]:
        """Return some texts of bodies that are not older."""
        recent = [text for time, text in self._seen[kind] if time >= since] or [text for _, text in self._seen[kind][-3:]]
        return self._chance.choices(recent, k=count) if recent else []


def batches(attempts: int, size: int, seed: int = 1, *, is_escaped: bool = False) -> Iterator[Batch]:
    """Generate ``attempts`` in all, and 37% as many events, about ``size`` attempts per batch, both in time order, as for the recorder.

    ``is_escaped``: one body in three has the escapes of Python's encoder, and one those of PHP's.
    """
    chance = random.Random(seed)
    events = attempts / ATTEMPTS_AN_EVENT
    shop = Shop(seed, live_orders=400, customers=max(CUSTOMERS, attempts // ATTEMPTS_A_CUSTOMER))
    batch, offsets, made = Batch(), itertools.count(), 0
    to_come: list[tuple[datetime, int, Attempt]] = []
    for number in itertools.count():
        received = START + timedelta(days=DAYS) * (number / events)
        received = received.replace(microsecond=received.microsecond // 1000 * 1000)
        event = decode_event(shop.next_event(received).value, max_bytes=10**7)
        meta = replace(event.meta, received_at=received)
        endpoints = chance.sample(range(1, ENDPOINTS + 1), chance.choice((1, 2, 2, 3)))
        dispatch = Dispatch(
            event=meta,
            endpoint_ids=tuple(endpoints),
            received_at=received,
            source_topic="oms.orders",
            source_partition=0,
            source_offset=number,
        )
        batch.events.append(
            event_row(RowPosition(0, number), dispatch, _encoded(webhook_body(event), number if is_escaped else 0))
        )
        for endpoint in endpoints:
            tries = 1 + (chance.random() < 0.15) * chance.choice((1, 1, 2, 5))
            for attempt in range(1, tries + 1):
                time = received + timedelta(seconds=DELAYS[attempt - 2] if attempt > 1 else 0)
                if attempt > 1 and time >= END:  # it is still in the future: the newest hours are as busy as all others
                    break
                one = _attempt(chance, meta, endpoint, attempt, tries, time)
                heapq.heappush(to_come, (one.created_at, made, one))
                made += 1
        is_end = made >= attempts
        while to_come and (is_end or to_come[0][0] <= received):
            batch.attempts.append(attempt_row(RowPosition(0, next(offsets)), heapq.heappop(to_come)[2]))
        if is_end or len(batch.attempts) >= size:
            yield batch
            batch = Batch()
        if is_end:
            return


def _encoded(body: bytes, number: int) -> bytes:
    if number % 3 == 0:
        return body
    text = json.dumps(json.loads(body), separators=(",", ":"))
    return (text if number % 3 == 1 else text.replace("/", "\\/")).encode()


def _attempt(chance: random.Random, meta: Any, endpoint: int, attempt: int, tries: int, time: datetime) -> Attempt:
    failed = attempt < tries or tries == 6
    return Attempt(
        event=meta,
        endpoint_id=endpoint,
        target_url=f"https://hooks-{endpoint}.example.com/oms",
        attempt=attempt,
        trigger=Trigger.EVENT if attempt == 1 else Trigger.RETRY,
        state=AttemptState.FAILED if failed else AttemptState.SUCCEEDED,
        outcome=(Outcome.EXHAUSTED if attempt == 6 else Outcome.RETRIED) if failed else Outcome.DELIVERED,
        created_at=time + timedelta(milliseconds=chance.randrange(1, 50)),
        duration_ms=round(chance.lognormvariate(4, 1), 3),
        http_status_code=chance.choice((500, 502, 503, 429)) if failed else chance.choice((200, 204)),
        error="The endpoint returned 503 (Service Unavailable)." if failed else None,
        request_headers={"webhook-id": meta.id, "webhook-signature": f"v1,{chance.getrandbits(256):x}"},
        response_headers=(("Server", "nginx"), ("Date", f"{time:%a, %d %b %Y %H:%M:%S} GMT")),
        response_body="upstream connect error" if failed else '{"ok":true}',
    )
