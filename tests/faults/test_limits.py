"""What a frozen or killed fan-out costs: repeated deliveries, commits that go back, and the time without deliveries.

``make test-faults SCENARIOS=tests/faults/test_limits.py CLIENT=librdkafka`` measures, and prints a line for each fault.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass

import pytest

from pipeline.devtools.local_broker import ApacheKafkaBroker
from tests.faults.collection import collect
from tests.faults.commit_history import history, steps_back
from tests.faults.evidence import Evidence, Fault
from tests.faults.limits import first_after, keep_one_endpoint, longest_silence, repeats, steady_load, takeover
from tests.faults.log_lines import times_of
from tests.faults.scenario import Scenario, Stage
from tests.waiting import until

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(3600)]

SESSION_S = 10.0
"""The product's default."""
EVENTS_A_SECOND = 70.0
FULL_LOAD = 150.0
BESIDE_IN_FLIGHT = 100
RESTART_S = 5.0
TAKEOVER_S = 12.0
SILENCE_S = 2.0
FIRST_LINE = "file descriptors"
"""A role's first log entry, as soon as its code is loaded."""
ATTEMPTS = "oms_webhooks_attempts_total"
IN_HAND = "oms_webhooks_outstanding_records"
MOMENTS = ("at rest", "during a join", "during a rebalance", "during a broker's restart")


@dataclass(frozen=True)
class Kill:
    """A fan-out was killed ``at``, and started again at ``started`` (seconds since 1970)."""

    fault: Fault
    started: float
    lost: frozenset[tuple[str, int]] = frozenset()
    """The partitions that it held."""
    kept: frozenset[tuple[str, int]] = frozenset()
    """The partitions of its neighbour."""


@pytest.fixture
def bootstrap_servers(own_broker: ApacheKafkaBroker) -> str:
    """Replace the session's broker, which is not started."""
    return own_broker.bootstrap_servers


ROLES = ("api", "fanout")
SESSION_MS = str(int(SESSION_S * 1000))


async def test_freezes(stage: Stage, own_broker: ApacheKafkaBroker) -> None:
    async with stage.play("freezes", roles=ROLES, log_format="json", kafka_session_timeout_ms=SESSION_MS) as run:
        run.to_publish.clear()
        await keep_one_endpoint(run.deployment)
        await run.deployment.launch("fanout", "fanout-2").until_ready()
        faults: list[Fault] = []
        async with steady_load(run.deployment, EVENTS_A_SECOND, run.seed):
            for name in ("fanout", "fanout-2"):
                await run.deployment.until_at_work(name)
            for number in range(run.scale.kills):
                victim = ("fanout", "fanout-2")[number // len(MOMENTS) % 2]
                faults.append(await freeze(run, own_broker, victim, MOMENTS[number % len(MOMENTS)]))
        found = await settled(run)
        again = account(run, found, faults)
        assert max(again) <= 0, "more deliveries were repeated than were in flight, plus 100"


async def freeze(run: Scenario, broker: ApacheKafkaBroker, name: str, moment: str) -> Fault:
    """SIGSTOP a fan-out at a random busy moment, beyond its session timeout; SIGCONT, and wait until it works."""
    deployment, chance = run.deployment, run.chance
    victim = deployment.roles[name]
    committed = await deployment.committed("fanout")
    happening: asyncio.Task[object] | None = None
    if moment == "during a join":
        joining = deployment.launch("fanout", f"fanout-{int(time.time())}")
        happening = asyncio.create_task(joining.until_ready())
        await asyncio.sleep(chance.uniform(0.5, 5.0))
        committed = await deployment.committed("fanout")
    elif moment == "during a rebalance":
        for other in [each for each in deployment.roles if each not in {"api", "fanout", "fanout-2"}]:
            happening = asyncio.create_task(deployment.dismiss(other, 40.0))
        await asyncio.sleep(chance.uniform(0.0, 1.0))
    elif moment == "during a broker's restart":
        happening = asyncio.create_task(asyncio.to_thread(restart, broker))
        await asyncio.sleep(chance.uniform(0.0, 5.0))
    else:
        await asyncio.sleep(chance.uniform(0.0, 1.0))
        committed = await deployment.committed("fanout")
    in_hand = await victim.metric(IN_HAND) or 0.0
    victim.freeze()
    at = time.time()
    await asyncio.sleep(SESSION_S + chance.uniform(1.0, 4.0))
    victim.thaw()
    thawed_at = time.time()
    if happening is not None:
        await happening
    await victim.until_above(ATTEMPTS, await victim.metric(ATTEMPTS) or 0.0)
    run.say(f"{name} was frozen for {thawed_at - at:.0f} s {moment}; it works again {time.time() - thawed_at:.1f} s after")
    return Fault(f"freeze {moment}", "fanout", at, committed, in_hand, at)


def restart(broker: ApacheKafkaBroker) -> None:
    broker.stop()
    broker.start()


async def test_kills_of_the_only_fan_out(stage: Stage) -> None:
    async with stage.play(
        "kills of the only fan-out", roles=ROLES, log_format="json", kafka_session_timeout_ms=SESSION_MS
    ) as run:
        run.to_publish.clear()
        await keep_one_endpoint(run.deployment)
        kills: list[Kill] = []
        async with steady_load(run.deployment, FULL_LOAD, run.seed):
            for number in range(1, run.scale.kills + 1):
                await run.deployment.until_at_work()
                await asyncio.sleep(run.chance.uniform(2.0, 4.0))
                kills.append(await kill(run, "fanout", pause=0.0))
                run.say(f"kill {number}")
            await run.deployment.until_at_work()
        found = await settled(run)
        again = account(run, found, [each.fault for each in kills])
        back = [first_after(found.requests, each.started) for each in kills]
        starts = times_of(run.deployment.directory / "fanout.log", FIRST_LINE)
        loading = [min(at for at in starts if at > each.started) - each.started for each in kills]
        rest = [whole - part for whole, part in zip(back, loading, strict=True)]
        run.say(f"first delivery after the start of the process: {figures(back)} s")
        run.say(f"of that until its code was loaded: {figures(loading)} s; the rest: {figures(rest)} s")
        assert max(again) <= 0, "more deliveries were repeated than were in flight, plus 100"
        # The time that Python takes to load the code shows how busy the machine is: three to four times as long as on an idle one.
        assert max(rest) <= RESTART_S


async def test_kills_beside_a_neighbour(stage: Stage) -> None:
    """Every second time, the killed one comes back only after its neighbour has taken over."""
    async with stage.play("kills beside a neighbour", roles=ROLES, log_format="json", kafka_session_timeout_ms=SESSION_MS) as run:
        run.to_publish.clear()
        await keep_one_endpoint(run.deployment)
        await run.deployment.launch("fanout", "fanout-2").until_ready()
        kills: list[Kill] = []
        async with steady_load(run.deployment, EVENTS_A_SECOND, run.seed) as sent_at:
            for number in range(max(2, run.scale.kills // 3)):
                await both_work(run)
                await asyncio.sleep(run.chance.uniform(0.0, 2.0))
                kills.append(await kill(run, "fanout-2", pause=0.0 if number % 2 else TAKEOVER_S + 3.0))
                run.say(f"kill {number + 1}")
            await both_work(run)
            # The time after the last kill must be under load, too.
            await asyncio.sleep(max(kills[-1].fault.at + TAKEOVER_S - time.time(), 0.0))
        found = await settled(run)
        again = account(run, found, [each.fault for each in kills])
        silences = [longest_silence(found, sent_at, each.kept, each.fault.at, each.fault.at + TAKEOVER_S) for each in kills]
        taken = [takeover(found, sent_at, each.lost, each.fault.at) for each in kills[::2]]
        run.say(f"a neighbour's longest silence: {figures(silences)} s; another took over within {figures(taken)} s")
        assert max(again) <= 0, "more deliveries were repeated than were in flight, plus 100"
        assert max(silences) <= SILENCE_S
        assert max(taken) <= TAKEOVER_S


async def both_work(run: Scenario) -> None:
    """Wait until both hold partitions and have delivered since."""
    roles, group = run.deployment.roles, run.deployment.settings.topics.fanout_group

    async def both_hold() -> bool:
        return all([await roles[name].holds(group) for name in ("fanout", "fanout-2")])

    await until(both_hold, roles["fanout-2"].log_end, seconds=120)
    for name in ("fanout", "fanout-2"):
        await roles[name].until_above(ATTEMPTS, await roles[name].metric(ATTEMPTS) or 0.0)


async def kill(run: Scenario, name: str, pause: float) -> Kill:
    """``kill -9`` a fan-out, and restart it after a pause."""
    deployment, group = run.deployment, run.deployment.settings.topics.fanout_group
    process = deployment.roles[name]
    lost = await process.holds(group)
    kept = frozenset().union(*[await each.holds(group) for other, each in deployment.roles.items() if other not in {name, "api"}])
    committed = await deployment.committed("fanout")
    in_hand = await process.metric(IN_HAND) or 0.0
    process.kill()
    at = time.time()
    await asyncio.sleep(pause)
    started = time.time()
    process.start()
    return Kill(Fault("kill -9", "fanout", at, committed, in_hand, at), started, lost, kept)


async def settled(run: Scenario) -> Evidence:
    """Return the evidence when everything is finished. Fails if an event was neither delivered nor scheduled (no retry runs)."""
    await run.deployment.settle(run.scale.settle_seconds)
    found = await asyncio.to_thread(collect, run.deployment)
    missing = found.missing - {record.pair for record in found.scheduled}
    assert not missing, f"{len(missing):,} events never arrived"
    return found


def account(run: Scenario, found: Evidence, faults: list[Fault]) -> list[int]:
    """Print the cost of each fault; returns by how many each exceeded the bound. Fails if a commit went back."""
    again = repeats(found.requests, found.published_twice)
    over = []
    for fault, end in zip(faults, [*(each.at for each in faults[1:]), float("inf")], strict=True):
        in_flight, times = found.in_flight(fault), again.between(fault.at, end)
        over.append(times - in_flight - BESIDE_IN_FLIGHT)
        run.say(f"{fault.what}: {fault.outstanding:.0f} records in hand, {in_flight} begun and not committed, {times} sent again")
    commits = history(run.deployment.kafka, run.deployment.settings.topics.fanout_group)
    back = steps_back(commits)
    run.say(
        f"{len(found.events):,} events, {len(again.at):,} deliveries again; {len(commits):,} commits, {len(back)} of them back"
    )
    assert len(commits) > len(faults)
    assert not back, "commits went back: " + "; ".join(map(str, back[:5]))
    return over


def figures(values: list[float]) -> str:
    return f"median {statistics.median(values):.1f}, longest {max(values):.1f} of {len(values)}"
