"""The output of fan-outs under load: records of attempts and dispatches with several entries each, as in Kafka."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from pipeline.core.exchange import Request, Response
from pipeline.core.outcome import judge
from pipeline.core.retry import RetrySchedule
from pipeline.delivery.delivery import AttemptResult, Delivery, SignedRequest
from pipeline.delivery.records import attempt_record
from pipeline.devtools.simulator import Shop
from pipeline.endpoints.endpoint import open_endpoint
from pipeline.endpoints.vault import Vault
from schemas.attempt import Attempt
from schemas.codec import to_json
from schemas.delivery import DISPATCH_HEADER, Dispatch
from schemas.event import EventMeta
from schemas.event_codec import decode_event, webhook_body
from tests.unit.sample_events import endpoint_record

FAN_OUT: Final = 4
"""Endpoints per event."""
ENDPOINTS: Final = 200
EVENTS_A_RECORD: Final = 6
"""What one of four fan-outs gathers in 10 ms (pipeline/broker/record_batcher.py) when all four together make 10,000 attempts a second."""
FAILED_SHARE: Final = 0.03

_SCHEDULE: Final = RetrySchedule((timedelta(seconds=5), timedelta(minutes=1)))
_ENDPOINT: Final = open_endpoint(endpoint_record(), Vault(Vault.new_key()))


class Slice(NamedTuple):
    """What a fan-out writes in 10 ms: one record of dispatches with its header, and one of attempts."""

    bodies: bytes
    header: tuple[str, bytes]
    attempts: bytes


def slices(events: int, seed: int = 1, a_second: float = 2500.0) -> Iterator[Slice]:
    """Generate the simulated shop's events, each delivered to ``FAN_OUT`` endpoints; the last second of them is now."""
    chance, shop = random.Random(seed), Shop(seed, live_orders=400)
    # A record may not span two days: all of them are in the one that has just started, or in the current one.
    now = datetime.now(UTC)
    first = max(now - timedelta(seconds=events / a_second), now.replace(hour=0, minute=0, second=0, microsecond=0))
    step = (now - first) / max(events, 1)
    for begin in range(0, events, EVENTS_A_RECORD):
        bodies, dispatches, attempts = [], [], []
        for number in range(begin, min(begin + EVENTS_A_RECORD, events)):
            received = first + number * step
            event = decode_event(shop.next_event(received).value, max_bytes=10**7, received_at=received)
            body = webhook_body(event)
            endpoints = tuple(chance.sample(range(1, ENDPOINTS + 1), FAN_OUT))
            dispatch = Dispatch(
                event=event.meta,
                endpoint_ids=endpoints,
                received_at=received,
                source_topic="oms.orders",
                source_partition=0,
                source_offset=number,
                body_bytes=len(body),
            )
            bodies.append(body)
            dispatches.append(to_json(dispatch))
            attempts += [to_json(_attempt(chance, event.meta, body, endpoint, received)) for endpoint in endpoints]
        yield Slice(b"".join(bodies), (DISPATCH_HEADER, b"\n".join(dispatches)), b"\n".join(attempts))


def _attempt(chance: random.Random, event: EventMeta, body: bytes, endpoint: int, received: datetime) -> Attempt:
    """Return an attempt as the fan-out writes it, with the headers that it sends and those that receivers send."""
    failed = chance.random() < FAILED_SHARE
    duration_ms = chance.lognormvariate(4, 1)
    exchange = Response(
        status=503 if failed else 200,
        headers=(
            ("Server", "nginx"),
            ("Date", f"{received:%a, %d %b %Y %H:%M:%S} GMT"),
            ("Content-Type", "application/json; charset=utf-8"),
            ("Content-Length", "11"),
            ("X-Request-Id", f"{chance.getrandbits(128):032x}"),
        ),
        body=b"upstream connect error" if failed else b'{"ok":true}',
        body_truncated=False,
        duration_ms=duration_ms,
        first_byte_ms=duration_ms * 0.9,
    )
    finished = received + timedelta(milliseconds=duration_ms)
    headers = {
        "content-type": "application/json",
        "webhook-id": event.id,
        "webhook-timestamp": str(int(received.timestamp())),
        "webhook-signature": f"v1,{chance.getrandbits(256):064x}",
    }
    to = replace(_ENDPOINT, id=endpoint, target_url=f"https://hooks-{endpoint}.example.com/oms")
    sent = SignedRequest(Request(to.target_url, headers, body), headers)
    verdict = judge(exchange, 1, _SCHEDULE, finished)
    return attempt_record(AttemptResult(Delivery(event, body, to), sent, exchange, verdict, received, finished))
