"""Three brokers under load, of which one or two die, freeze and come back: nothing is lost, no role ends, no role floods the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.cluster import KafkaCluster, Node
from tests.faults.commit_history import history, steps_back
from tests.faults.evidence import Evidence, Fault
from tests.faults.log_lines import LogLine, calling_lines, summary, worst_minute
from tests.faults.scenario import Scenario, Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(3600)]

PLAIN_FAULTS = 4
"""Besides the freezes; each has its own wave of events."""
FEWER_LINES_THAN = 10
"""Per minute and role, at the level ``warning`` or above."""
IN_SYNC_S = 180.0
READERS = ("fanout", "retry", "recorder")


@dataclass(frozen=True)
class Plan:
    """The duration of each fault in seconds, the number of freezes, and the load, which lasts longer than the faults."""

    down: float
    away: float
    two_away: float
    frozen: float
    freezes: int
    events_a_wave: int
    events_a_second: float


PLANS = {"short": Plan(4, 8, 6, 15, 1, 300, 10.0), "full": Plan(10, 60, 30, 40, 10, 1_400, 20.0)}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KafkaCluster]:
    """Run three brokers that no other scenario uses."""
    cluster = KafkaCluster(tmp_path / "kafka")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def bootstrap_servers(cluster: KafkaCluster) -> str:
    """Replace the session's broker, which is not started."""
    return cluster.bootstrap_servers


async def test_nothing_is_lost_when_one_or_two_of_three_brokers_die_or_freeze(stage: Stage, cluster: KafkaCluster) -> None:
    async with stage.play(
        "three brokers",
        log_format="json",
        kafka_replication_factor="3",
        kafka_min_insync_replicas="2",
    ) as run:
        started = time.time()
        topics, plan = run.deployment.settings.topics, PLANS[run.scale.form]
        while len(run.to_publish) > plan.events_a_wave * (PLAIN_FAULTS + plan.freezes):
            run.to_publish.pop()
        async with wave(run):
            await down(run, cluster, "leader", [await cluster.leader(topics.orders, 0)], plan.down)
        async with wave(run):
            coordinator = await cluster.coordinator(topics.fanout_group)
            await down(run, cluster, "coordinator", [coordinator], plan.down, restarts_fan_out=True)
        async with wave(run):
            await down(run, cluster, "one away", [run.chance.choice(cluster.nodes)], plan.away)
        async with wave(run):
            await down(run, cluster, "two away", run.chance.sample(cluster.nodes, 2), plan.two_away)
        for number in range(plan.freezes):
            async with wave(run):
                await frozen(run, cluster, run.chance.choice(cluster.nodes), plan.frozen, restarts_fan_out=number % 2 == 0)
        await run.prove(most_duplicates=in_flight)
        for process in run.deployment.roles.values():
            process.check_alive()
        for role in READERS:
            commits = await asyncio.to_thread(history, run.deployment.kafka, getattr(topics, f"{role}_group"))
            back = steps_back(commits)
            run.say(f"{role}: {len(commits):,} commits, {len(back)} of them back")
            assert commits
            assert not back, f"commits of {role} went back: " + "; ".join(map(str, back[:5]))
        worst = {name: worst_minute(lines_of(run, name, started)) for name in run.deployment.roles}
        run.say("lines in the worst minute: " + ", ".join(f"{name} {len(lines)}" for name, lines in worst.items()))
        loud = {name: lines for name, lines in worst.items() if len(lines) >= FEWER_LINES_THAN}
        assert not loud, "\n".join(
            f"{name} wrote {len(lines)} lines in a minute:\n{summary(lines)}" for name, lines in loud.items()
        )


def lines_of(run: Scenario, name: str, since: float) -> list[LogLine]:
    return list(calling_lines(run.deployment.directory / f"{name}.log", since))


def in_flight(found: Evidence) -> int:
    """Return what was started and not committed at a fault: it may be repeated once for each."""
    return found.in_flight_at_the_faults


@asynccontextmanager
async def wave(run: Scenario) -> AsyncIterator[None]:
    """Provide load while the block runs, with work in progress from its start."""
    plan, attempts = PLANS[run.scale.form], "oms_webhooks_attempts_total"
    before = await run.deployment.roles["fanout"].metric(attempts) or 0.0
    load = run.take(plan.events_a_wave)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run.deployment.publish(load, plan.events_a_second))
        await run.deployment.roles["fanout"].until_above(attempts, before)
        await asyncio.sleep(run.chance.uniform(1.0, 2.0))
        yield


async def down(
    run: Scenario, cluster: KafkaCluster, what: str, nodes: list[Node], seconds: float, *, restarts_fan_out: bool = False
) -> None:
    """``kill -9`` brokers, and restart them after a while."""
    names = " and ".join(f"broker {node.number}" for node in nodes)
    async with noted(run, f"{what} killed"):
        for node in nodes:
            await asyncio.to_thread(node.kill)
        run.say(f"{what}: {names} killed, for {seconds:.0f} s")
        await asyncio.gather(asyncio.sleep(seconds), *([restart_fan_out(run)] if restarts_fan_out else []))
        await asyncio.to_thread(cluster.start, *nodes)
        await cluster.until_in_sync(run.deployment.settings.topics.orders, IN_SYNC_S)
    run.say(f"{names} back, and in sync")


async def frozen(run: Scenario, cluster: KafkaCluster, node: Node, seconds: float, *, restarts_fan_out: bool) -> None:
    """SIGSTOP a broker, and SIGCONT it."""
    async with noted(run, "broker frozen"):
        node.freeze()
        run.say(f"broker {node.number} frozen, for {seconds:.0f} s")
        try:
            await asyncio.gather(asyncio.sleep(seconds), *([restart_fan_out(run)] if restarts_fan_out else []))
        finally:
            node.thaw()
        await cluster.until_in_sync(run.deployment.settings.topics.orders, IN_SYNC_S)
    run.say(f"broker {node.number} thawed, and in sync")


async def restart_fan_out(run: Scenario) -> None:
    """``kill -9`` the fan-out, and restart it while some brokers are down: it must start."""
    fan_out = run.deployment.roles["fanout"]
    fan_out.kill()
    fan_out.start()
    began = time.monotonic()
    await fan_out.until_ready()
    await run.deployment.until_at_work()
    run.say(f"the fan-out was killed, and works again after {time.monotonic() - began:.1f} s")


@asynccontextmanager
async def noted(run: Scenario, what: str) -> AsyncIterator[None]:
    """Record what was in flight at the start of the block, and what could start until its end."""
    roles = ("fanout", "retry")
    in_hand = {role: await run.deployment.roles[role].metric("oms_webhooks_outstanding_records") or 0.0 for role in roles}
    committed = {role: await run.deployment.committed(role) for role in roles}
    at = time.time()
    yield
    until = time.time()
    run.faults.extend(Fault(what, role, at, committed[role], in_hand[role], until) for role in roles)
