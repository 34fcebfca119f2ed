"""A running scenario: a deployment, a load in waves, faults, and the promises at the end."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.devtools.simulator import SimulatedEvent
from tests.faults.collection import collect
from tests.faults.deployment import EVERY_ROLE, Deployment, deployed, simulated_events
from tests.faults.endpoints import ENDPOINTS, FaultyEndpoint
from tests.faults.evidence import Evidence, Fault
from tests.faults.promises import broken
from tests.faults.receivers import Behaviour
from tests.faults.scale import Scale

Tell = Callable[[str], None]


Bound = int | Callable[[Evidence], int]


def _figure(bound: Bound, found: Evidence) -> int:
    return bound if isinstance(bound, int) else bound(found)


@dataclass(frozen=True)
class Result:
    """A line of the table at the end."""

    scenario: str
    seed: int
    form: str
    kept: bool
    events: int
    notifications: int
    missing: int
    duplicates: int
    in_flight: int
    dead_letters: int
    seconds: float


@dataclass
class Scenario:
    """A running scenario with one seed."""

    name: str
    seed: int
    scale: Scale
    deployment: Deployment
    chance: random.Random
    faults: list[Fault] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    to_publish: deque[SimulatedEvent] = field(default_factory=deque)
    _tell: Tell = print
    _results: list[Result] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print a line about its progress."""
        self._tell(f"[{self.name} · seed {self.seed} · {time.monotonic() - self.started:4.0f} s] {text}")

    def take(self, count: int) -> list[SimulatedEvent]:
        """Return the next events, at most ``count``, for a scenario that publishes them itself."""
        return [self.to_publish.popleft() for _ in range(min(count, len(self.to_publish)))]

    @asynccontextmanager
    async def under_load(self, waves: int = 1, rate: float = 0.0) -> AsyncIterator[None]:
        """Publish one of ``waves`` equal parts of the events while the block runs; leave when both are done."""
        wave = self.take(-(-self.scale.events // waves))
        finished = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.deployment.publish(wave, rate or self.scale.events_a_second, finished))
            yield
            finished.set()

    async def prove(
        self,
        *,
        most_duplicates: Bound | None = None,
        dead_letters: Bound = 0,
        read_as: Callable[[Evidence], Evidence] = lambda found: found,
    ) -> Evidence:
        """Wait until everything is settled, and check the evidence against the promises.

        ``most_duplicates``: how many were in flight, if the faults do not say so. Figures that depend on the evidence are functions of
        it. ``read_as`` converts the evidence first: another release may have written some of it in its own form.
        """
        while self.to_publish:
            async with self.under_load():
                pass
        self.say(f"{len(self.deployment.events):,} events are published; waiting until all is settled")
        await self.deployment.settle(self.scale.settle_seconds)
        seconds = time.monotonic() - self.started
        self.say("settled; reading what was left behind")
        found = read_as(await asyncio.to_thread(collect, self.deployment))
        found.faults, found.seconds = self.faults, seconds
        bound = found.in_flight_at_the_faults if most_duplicates is None else _figure(most_duplicates, found)
        findings = broken(found, most_duplicates=bound, dead_letters=_figure(dead_letters, found))
        self._results.append(
            Result(
                scenario=self.name,
                seed=self.seed,
                form=self.scale.form,
                kept=not findings,
                events=len(found.events),
                notifications=len(found.expected),
                missing=len(found.missing),
                duplicates=found.duplicates,
                in_flight=bound,
                dead_letters=len(found.dead_letters),
                seconds=round(time.monotonic() - self.started, 1),
            )
        )
        self.say("the promises are kept" if not findings else "promises are BROKEN")
        self._tell(found.summary())
        assert not findings, "\n".join(findings)
        return found


@dataclass(frozen=True)
class Stage:
    """Runs scenarios."""

    bootstrap_servers: str
    directory: Path
    seed: int
    scale: Scale
    tell: Tell
    results: list[Result]

    @asynccontextmanager
    async def play(
        self,
        name: str,
        *,
        roles: Sequence[str] = EVERY_ROLE,
        behaviour: Behaviour | None = None,
        bootstrap_servers: str = "",
        commands: Mapping[str, Sequence[str]] | None = None,
        endpoints: Sequence[FaultyEndpoint] = ENDPOINTS,
        **settings: str,
    ) -> AsyncIterator[Scenario]:
        """Start a new deployment for a scenario; ``settings`` are the roles' settings as text."""
        started = time.monotonic()
        prefix = f"{name.replace(' ', '').replace('-', '').lower()}{secrets.token_hex(4)}."
        servers = bootstrap_servers or self.bootstrap_servers
        async with deployed(
            self.directory,
            servers,
            prefix,
            seed=self.seed,
            roles=roles,
            behaviour=behaviour,
            commands=commands,
            endpoints=endpoints,
            **settings,
        ) as deployment:
            events = deque(simulated_events(self.scale.events, self.seed))
            scenario = Scenario(
                name, self.seed, self.scale, deployment, random.Random(self.seed), [], started, events, self.tell, self.results
            )
            played = len(self.results)
            scenario.say(f"everything runs; {self.scale.events:,} events to come. Repeat it with FAULTS_SEED={self.seed}")
            try:
                yield scenario
            except BaseException:
                if len(self.results) == played:  # it did not reach the promises
                    seconds = round(time.monotonic() - started, 1)
                    published = len(deployment.events)
                    self.results.append(Result(name, self.seed, self.scale.form, False, published, 0, 0, 0, 0, 0, seconds))
                raise
