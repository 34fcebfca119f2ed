"""``kill -9`` of fan-out, retry and recorder in turn, under load, on a real Apache Kafka: nothing is lost, nothing recorded twice.

The run is made once; each test looks at one promise. A failing run can be repeated with its seed: ``FAULTS_SEED=…``.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.conftest import Tell
from tests.faults.deployment import FLAKY, Deployment, deployed, examples, simulated_events
from tests.faults.evidence import Evidence, Kill, StoredRow
from tests.faults.receivers import Behaviour

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(600)]

EVENTS = 20_000
EVENTS_A_SECOND = 450
FAIL_RATE = 0.2
ROUNDS = 3
VICTIMS = ("fanout", "retry", "recorder")
SETTLE_SECONDS = 240.0
GRACE_SECONDS = 40.0


async def kill_in_turn(deployment: Deployment, chance: random.Random) -> list[Kill]:
    """Kill each victim at a random moment of its work, and start it again a moment later; several rounds."""
    kills = []
    for _ in range(ROUNDS):
        for role in VICTIMS:
            # Nobody has work while the fan-out is on its way back into its group.
            await deployment.until_at_work()
            await asyncio.sleep(chance.uniform(0.2, 2.0))
            kills.append(await deployment.kill(role, pause=chance.uniform(0.1, 1.0)))
    return kills


async def run(directory: Path, bootstrap_servers: str, seed: int) -> Evidence:
    prefix = f"kill{secrets.token_hex(4)}."
    events = simulated_events(EVENTS, seed)
    behaviour = Behaviour(FLAKY, fail_rate=FAIL_RATE, seed=seed)
    async with deployed(directory, bootstrap_servers, prefix, behaviour=behaviour) as deployment:
        started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(deployment.publish(events, EVENTS_A_SECOND))
            killing = tasks.create_task(kill_in_turn(deployment, random.Random(seed)))
        await deployment.settle(SETTLE_SECONDS)
        seconds = time.monotonic() - started
        found = await asyncio.to_thread(deployment.collect)
        found.kills, found.seconds = killing.result(), seconds
        for process in deployment.roles.values():
            await process.terminate(GRACE_SECONDS)
        return found


@pytest.fixture(scope="module")
def evidence(bootstrap_servers: str, tmp_path_factory: pytest.TempPathFactory, seed: int, tell: Tell) -> Evidence:
    """The run; it takes minutes."""
    found = asyncio.run(run(tmp_path_factory.mktemp("kill"), bootstrap_servers, seed))
    tell(found.summary())
    return found


def test_every_event_reached_every_subscriber(evidence: Evidence) -> None:
    missing = evidence.missing
    assert not missing, f"{len(missing):,} notifications never arrived, such as {examples(missing)}"
    lost = evidence.lost
    assert not lost, f"{len(lost):,} notifications have fewer requests than were due, such as {examples(lost)}"
    assert evidence.dead_letters == 0, f"{evidence.dead_letters} events or records were set aside; the logs of the roles say why"


def test_every_attempt_stands_in_clickhouse_exactly_once(evidence: Evidence) -> None:
    unrecorded = evidence.unrecorded
    assert not unrecorded, f"{len(unrecorded):,} notifications have no record of how they ended, such as {examples(unrecorded)}"
    recorded = [StoredRow(attempt.position.partition, attempt.position.offset, attempt.id) for attempt in evidence.attempts]
    assert_stored_once(recorded, evidence.stored_attempts)


def test_every_dispatch_stands_in_clickhouse_exactly_once(evidence: Evidence) -> None:
    assert_stored_once(evidence.dispatches, evidence.stored_dispatches)


def assert_stored_once(acknowledged: Sequence[StoredRow], rows: Sequence[StoredRow]) -> None:
    """What Kafka holds and what ClickHouse holds, compared one by one."""
    lost = Counter(acknowledged) - Counter(rows)
    surplus = Counter(rows) - Counter(acknowledged)
    assert not lost, f"{lost.total():,} entries of Kafka are not in ClickHouse, such as {sorted(lost)[:5]}"
    assert not surplus, f"{surplus.total():,} rows are too many, or have nothing in Kafka, such as {sorted(surplus)[:5]}"


def test_duplicates_are_no_more_than_what_was_in_flight_at_the_kills(evidence: Evidence) -> None:
    """In flight: begun (sent, or parked) and not committed. Only the fan-out and the retry make requests."""
    duplicates, in_flight = evidence.duplicates, sum(evidence.in_flight(kill) for kill in evidence.kills)
    assert in_flight > 0, "nothing was in flight at any kill, so the run shows nothing; it needs more load"
    assert duplicates <= in_flight, (
        f"{duplicates:,} requests too many, though only {in_flight:,} deliveries were in flight at the kills"
    )


def test_nobody_got_what_they_did_not_subscribe_to(evidence: Evidence) -> None:
    unwanted = evidence.request_counts.keys() - evidence.expected
    assert not unwanted, (
        f"{len(unwanted):,} notifications went to endpoints that had not subscribed, such as {examples(unwanted)}"
    )


def test_every_repeat_carries_the_same_id_and_body(evidence: Evidence) -> None:
    different = [event_id for event_id, hashes in evidence.body_hashes.items() if len(hashes) > 1]
    assert not different, f"{len(different):,} events were sent with several bodies, such as {sorted(different)[:5]}"
    unknown = evidence.body_hashes.keys() - {event.id for event in evidence.events}
    assert not unknown, f"webhook-ids that no event has: {sorted(unknown)[:5]}"
