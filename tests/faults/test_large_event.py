"""``kill -9`` during an event for very many endpoints: those that already have it do not get it again."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.faults.deployment import Deployment
from tests.faults.receivers import Behaviour
from tests.faults.scenario import Stage
from tests.waiting import until

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]

ENDPOINTS = {"short": 500, "full": 5_000}
AT_ONCE = 20
ANSWER_SECONDS = 0.2
NOT_COMMITTED = 100
"""What may be repeated besides what is in flight."""
REGISTERED_AT_ONCE = 8
PATIENCE_S = 300.0


async def test_an_event_interrupted_by_a_kill_is_not_resent_to_the_finished_half(stage: Stage) -> None:
    behaviour = Behaviour("/many", slow_rate=1.0, slow_seconds=ANSWER_SECONDS)
    async with stage.play("large event", roles=("api", "fanout"), behaviour=behaviour, max_in_flight=str(AT_ONCE)) as run:
        deployment, count = run.deployment, ENDPOINTS[run.scale.form]
        await register(deployment, count)
        run.say(f"{count:,} endpoints are registered")
        [event] = run.take(1)
        await deployment.publish([event], rate=10.0)
        half = int(count * run.chance.uniform(0.4, 0.6))
        await until_sent(deployment, event.id, half)
        fault = await deployment.kill("fanout", pause=0.1)
        before = sent(deployment, event.id)
        assert all(at.offset == 0 for at in fault.committed.values()), (
            "the event was finished before the kill: the run proves nothing"
        )
        run.say(f"killed after {len(before):,} requests")
        await deployment.roles["fanout"].until_ready()
        group = deployment.settings.topics.fanout_group

        async def is_committed() -> bool:
            return not await asyncio.to_thread(deployment.kafka.lag, group, deployment.settings.topics.sources)

        await until(is_committed, deployment.roles["fanout"].log_end, seconds=PATIENCE_S)
        after = sent(deployment, event.id)
        again = sum(after.values()) - len(after)
        run.say(f"{sum(after.values()):,} requests in all, {again:,} of them again")
        assert len(after) == count, "an endpoint did not get the event"
        assert again <= AT_ONCE + NOT_COMMITTED
        assert len(before) > 1.5 * (AT_ONCE + NOT_COMMITTED), (
            "too few requests before the kill to prove that the finished half is skipped"
        )


async def register(deployment: Deployment, count: int) -> None:
    """Register endpoints of one path that get everything, distinguished by their query strings."""
    places = asyncio.Semaphore(REGISTERED_AT_ONCE)
    events = ["order_completed", "order_cancelled", "shipment_shipped", "shipment_updated", "shipment_delivery_status_updated"]
    events += ["stock_item_back_in_stock", "stock_item_out_of_stock"]
    async with deployment.api() as client, asyncio.TaskGroup() as tasks:

        async def one(number: int) -> None:
            async with places:
                wanted = {"target_url": f"{deployment.receivers.url}/many?endpoint={number}", "events": events}
                (await client.post("/api/webhook/endpoints", json={"endpoint": wanted})).raise_for_status()

        for number in range(count):
            tasks.create_task(one(number))


def sent(deployment: Deployment, event_id: str) -> Counter[str]:
    """Return how often each of them got the event so far."""
    deployment.receivers.ledger.read_on()
    requests = deployment.receivers.ledger.requests
    return Counter(request.path for request in requests if request.event_id == event_id and request.path.startswith("/many"))


async def until_sent(deployment: Deployment, event_id: str, count: int) -> None:
    await until(lambda: len(sent(deployment, event_id)) >= count, deployment.roles["fanout"].log_end, seconds=PATIENCE_S)
