"""Ordered deliveries under load, failures, ``kill -9`` and a rebalance: no event after a later one of its key, none lost, others continue.

Two of six endpoints are ordered. The events have 500 keys; those of every tenth key often fail at these two.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import pytest

from pipeline.broker.api import Position
from pipeline.broker.factory import open_broker
from pipeline.broker.producer import Producer
from pipeline.devtools.simulator import SimulatedEvent
from tests.faults.deployment import Deployment
from tests.faults.endpoints import EVERYTHING, FaultyEndpoint, wanted_by
from tests.faults.evidence import Event
from tests.faults.kafka_view import TopicOffset
from tests.faults.order import BAD, Orders, inversions, percentile
from tests.faults.receivers import Behaviour
from tests.faults.scenario import Scenario, Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]

OFTEN = Behaviour(fail_rate=0.3, marked=BAD)
ENDPOINTS = (
    FaultyEndpoint("/in-order", EVERYTHING, OFTEN, is_ordered=True),
    FaultyEndpoint("/in-order-too", EVERYTHING, OFTEN, is_ordered=True),
    FaultyEndpoint("/erp", EVERYTHING),
    FaultyEndpoint("/warehouse", EVERYTHING),
    FaultyEndpoint("/flaky", EVERYTHING, Behaviour(fail_rate=0.1)),
    FaultyEndpoint("/shop-front", EVERYTHING),
)
IN_ORDER = frozenset(endpoint.path for endpoint in ENDPOINTS if endpoint.is_ordered)
CALM_RATE = 40.0
"""Events a second while latencies are compared: easy for the machine, so that only failures make a difference."""
SLOWER = 1.5
GRACE_SECONDS = 0.05
"""Shorter latencies are not compared."""


def latencies(deployment: Deployment, written: Mapping[str, float], events: Iterable[SimulatedEvent]) -> list[float]:
    """Return the seconds from publishing an event to its first request, at the ordered endpoints, for keys that do not fail."""
    wanted = {event.id for event in events if BAD not in event.value.decode()}
    deployment.receivers.ledger.read_on()
    first: dict[tuple[str, str], float] = {}
    for request in deployment.receivers.ledger.requests:
        if request.path in IN_ORDER and request.event_id in wanted:
            first.setdefault((request.path, request.event_id), request.at - written[request.event_id])
    return list(first.values())


async def calmly(run: Scenario, events: Sequence[SimulatedEvent], written: dict[str, float]) -> None:
    """Publish events one by one, evenly, and record when."""
    deployment = run.deployment
    topics = deployment.settings.topics
    producer = Producer(open_broker(deployment.settings), topics.sources)
    await producer.start()
    sent: list[asyncio.Future[Position]] = []
    began = time.monotonic()
    try:
        for number, event in enumerate(events):
            written[event.id] = time.time()
            sent.append(producer.send(topics.orders, key=event.key.encode(), value=event.value))
            await asyncio.sleep(max(0.0, began + number / CALM_RATE - time.monotonic()))
        positions = await asyncio.gather(*sent)
    finally:
        await producer.close()
    deployment.events += [
        Event(event.id, TopicOffset(*position[:3]), wanted_by(event, ENDPOINTS))
        for event, position in zip(events, positions, strict=True)
    ]


async def until_all_came(run: Scenario, seconds: float) -> None:
    """Wait until the endpoints have acknowledged everything, or retries are used up."""
    deployment, deadline = run.deployment, time.monotonic() + seconds
    expected = {(event.id, path) for event in deployment.events for path in event.wanted_by}
    while True:
        missing = expected - deployment.acknowledged()
        requests = Counter((request.event_id, request.path) for request in deployment.receivers.ledger.requests)
        attempts = 1 + len(deployment.settings.retry_delays)
        missing = {pair for pair in missing if requests[pair] < attempts}
        if not missing:
            return
        assert time.monotonic() < deadline, f"{len(missing):,} notifications have not arrived, such as {sorted(missing)[:5]}"
        for role in deployment.roles.values():
            role.check_alive()
        await asyncio.sleep(0.5)


async def test_order_is_kept_and_other_keys_continue(stage: Stage) -> None:
    async with stage.play("order", endpoints=ENDPOINTS) as run:
        deployment, orders, scale = run.deployment, Orders(), run.scale
        written: dict[str, float] = {}
        calm = min(1_500, scale.events // 5)
        await calmly(run, warm := orders.take(calm // 3, bad=False), written)
        await until_all_came(run, scale.settle_seconds)
        await calmly(run, quiet := orders.take(calm, bad=False), written)
        await until_all_came(run, scale.settle_seconds)
        await calmly(run, noisy := orders.take(calm, bad=True), written)
        await until_all_came(run, scale.settle_seconds)
        without, beside = (percentile(latencies(deployment, written, part), 0.99) for part in (quiet, noisy))
        run.say(f"p99 of orders that do not fail: {without * 1000:.0f} ms without failures, {beside * 1000:.0f} ms beside them")

        left = scale.events - len(warm) - len(quiet) - len(noisy)
        kills = max(2, scale.kills // 3)
        for number in range(kills):
            wave = orders.take(left // (kills + 1), bad=True)
            publishing = asyncio.create_task(deployment.publish(wave, scale.events_a_second))
            await asyncio.sleep(run.chance.uniform(0.5, 2.0))
            victim = ("retry", "fanout")[number % 2]
            await deployment.kill(victim, pause=run.chance.uniform(0.1, 1.0))
            run.say(f"{number + 1} of {kills}: killed {victim}")
            await publishing
        publishing = asyncio.create_task(
            deployment.publish(orders.take(left - kills * (left // (kills + 1)), bad=True), scale.events_a_second)
        )
        second = deployment.launch("retry", "retry-2")
        other = deployment.launch("fanout", "fanout-2")
        await asyncio.gather(second.until_ready(), other.until_ready())
        await asyncio.sleep(run.chance.uniform(1.0, 3.0))
        await asyncio.gather(deployment.dismiss("retry", 40.0), deployment.dismiss("fanout", 40.0))
        run.say("a second fan-out and a second retry have joined, and the first ones have left")
        await publishing
        await until_all_came(run, scale.settle_seconds)

        ledger = deployment.receivers.ledger
        ledger.read_on()
        keys = {event.id: event.key for event in orders.made.values()}
        places = {event.id: (keys[event.id], event.position.partition, event.position.offset) for event in deployment.events}
        in_order = [request for request in ledger.requests if request.path in IN_ORDER]
        failed = sum(not request.is_acknowledged for request in in_order)
        found = inversions(in_order, places)
        again = (
            len(in_order) - failed - len({(request.event_id, request.path) for request in in_order if request.is_acknowledged})
        )
        run.say(
            f"{len(deployment.events):,} events, {len(in_order):,} requests in order, {failed:,} of them failed, {again:,} came again; "
            f"{len(found):,} inversions"
        )
        others = [request for request in ledger.requests if request.path not in IN_ORDER]
        assert others, "the other endpoints got nothing"
        assert len(deployment.events) == scale.events
        assert failed > 0, "nothing failed, so the run proves nothing"
        assert found == [], found[:5]
        came: defaultdict[str, set[str]] = defaultdict(set)
        for request in ledger.requests:
            came[request.path].add(request.event_id)
        assert {path: len(events) for path, events in came.items()} == {endpoint.path: scale.events for endpoint in ENDPOINTS}
        if scale.form == "full":  # the short form shares its machine with other suites
            assert beside <= max(without * SLOWER, without + GRACE_SECONDS)
