"""What the API works with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from pipeline.broker.producer import Producer
from pipeline.delivery.courier import Courier
from pipeline.endpoints.registry import Registry
from pipeline.endpoints.vault import Vault
from pipeline.ops.clock import Clock, utc_now
from pipeline.sender.guard import AddressGuard
from pipeline.store.analyst import Analyst
from pipeline.store.erase import Eraser
from pipeline.store.replay import Replays
from pipeline.store.reports import Reports
from pipeline.store.search import Search
from pipeline.web.addresses import Networks
from pipeline.web.auth import ApiKeys
from pipeline.web.ended_sessions import EndedSessions
from pipeline.web.guesses import Guesses
from pipeline.web.key_ring import KeyRing
from pipeline.web.runs import Runs
from schemas.topics import DEFAULT_HOLD, MAX_EVENT_BYTES_LIMIT, Topics


@dataclass(frozen=True, slots=True)
class Api:
    """The parts that the API's handlers share. One per process."""

    registry: Registry
    producer: Producer
    vault: Vault
    guard: AddressGuard
    search: Search
    reports: Reports
    courier: Courier
    topics: Topics
    ring: KeyRing
    keys: ApiKeys
    ended_sessions: EndedSessions
    eraser: Eraser
    replays: Replays
    analyst: Analyst | None = None
    """Where ClickHouse runs in this process: takes SQL from the holders of API keys."""
    clock: Clock = utc_now
    write_timeout_seconds: float = 10.0
    """How long a change may wait for Kafka before it is answered with 503."""
    search_timeout_seconds: float = 30.0
    """How long a search may take, waiting for its turn included."""
    test_timeout_seconds: float = 30.0
    """How long a test delivery may take in all: longer than a request to an endpoint may."""
    erasure_timeout_seconds: float = 600.0
    """How long ClickHouse may take to overwrite what is erased before that is answered with 503."""
    max_event_bytes: int = MAX_EVENT_BYTES_LIMIT
    """How large an event may be that is published again."""
    hold: timedelta = DEFAULT_HOLD
    """How long deliveries wait for an endpoint that is paused or disabled."""
    proxies: Networks = ()
    """Reverse proxies whose X-Forwarded-For is believed."""
    runs: Runs = field(default_factory=Runs)
    """The runs that resend many."""
    guesses: Guesses = field(default_factory=Guesses)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an endpoint is read and written again, so that of two changes at once none is lost."""
