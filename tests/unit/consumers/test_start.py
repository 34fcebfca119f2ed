"""Concurrent steps of a start, and what is stopped if one of them fails."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from consumers.concurrent_steps import together
from consumers.role import ALL_ROLES, Role, RoleError, check_settings
from consumers.run import start
from consumers.start_context import start_context
from consumers.startup import StartupRetries
from consumers.store_wiring import Recording
from consumers.worker_start import start_and_drain_later
from pipeline.broker.errors import TopicError
from pipeline.broker.kafka.readiness_probe import BrokerProbe
from pipeline.endpoints.vault import Vault
from pipeline.ops import metrics
from pipeline.ops.dependency_probes import Probes
from pipeline.ops.settings import Settings
from pipeline.store.connection import Connections
from tests.unit.fake_kafka import settle
from tests.unit.virtual_time import in_virtual_time


async def test_steps_run_concurrently() -> None:
    met = asyncio.Barrier(2)

    async def step() -> None:
        await met.wait()

    await together(step(), step())
    assert met.n_waiting == 0


async def test_if_a_step_fails_the_others_end_before_the_error_is_raised() -> None:
    ended = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("waits")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        await together(waits(), fails())
    assert ended == ["waits"]


@pytest.mark.parametrize("role", [Role.RECORDER, Role.API])
def test_a_recorder_and_an_api_in_two_processes_need_a_persistent_store(role: Role, tmp_path: Path) -> None:
    """The recorder used to store rows in one temporary directory, and the API searched in another one."""
    settings = Settings(_env_file=None, kafka_bootstrap_servers="127.0.0.1:1", encryption_key=SecretStr(Vault.new_key()))  # type: ignore[call-arg,unused-ignore]
    with pytest.raises(RoleError, match="Set OMS_WEBHOOKS_CLICKHOUSE_URL, or run `oms-webhooks all`"):
        check_settings(settings, [role, Role.FANOUT])
    lasting: list[dict[str, Any]] = [{"clickhouse_url": "http://127.0.0.1:1"}, {"clickhouse_path": tmp_path}]
    for place in lasting:
        check_settings(settings.model_copy(update=place), [role])
    for roles in (ALL_ROLES, [Role.FANOUT, Role.RETRY]):
        check_settings(settings, roles)


class Dependency:
    """Replaces the probe: it always answers."""

    def __init__(self) -> None:
        self.outage = SimpleNamespace(dependency="Kafka", problem=None)

    def problem(self) -> str | None:
        return None

    async def ask(self) -> bool:
        return True

    async def until_up(self) -> None:
        """It is up."""


@in_virtual_time()
async def test_a_refusal_is_reported_until_it_is_over_whatever_else_succeeds() -> None:
    """Steps run concurrently, so the success of one says nothing about another."""
    retries = StartupRetries(Dependency(), ends_when_refused=False)  # type: ignore[arg-type]
    granted = asyncio.Event()

    async def refused() -> str:
        if not granted.is_set():
            raise TopicError("no right to read webhooks.endpoints")
        return "read"

    async def works() -> str:
        return "connected"

    step = asyncio.create_task(retries.run(refused))
    await retries.has_waited.wait()
    for _ in range(5):  # until it has asked whether the dependency answers
        await asyncio.sleep(0)
    assert await retries.run(works) == "connected"
    assert retries.problem() == "no right to read webhooks.endpoints"
    assert retries.is_waiting()
    granted.set()
    assert await step == "read"
    assert retries.problem() is None
    assert not retries.is_waiting()


class Worker:
    """Replaces the worker of a fan-out or retry. It records that it has stopped, a little later."""

    def __init__(self, stopped: list[Worker], *, start: Exception | None = None, stop: Exception | None = None) -> None:
        self.stopped = stopped
        self.errors = start, stop

    async def start(self) -> None:
        await asyncio.sleep(0)
        if self.errors[0] is not None:
            raise self.errors[0]

    async def stop(self, _: float) -> None:
        if self.errors[1] is not None:
            raise self.errors[1]
        await settle()
        self.stopped.append(self)


async def start_workers(stack: AsyncExitStack, *workers: Any) -> None:
    retries = StartupRetries(Dependency(), ends_when_refused=True)  # type: ignore[arg-type]
    await start_and_drain_later(workers, retries, stack, 20)


async def test_started_workers_are_drained_if_another_one_does_not_start() -> None:
    stopped: list[Worker] = []
    works, fails = Worker(stopped), Worker(stopped, start=RuntimeError("no thread"), stop=AttributeError("never started"))
    with pytest.raises(RuntimeError, match="no thread"):
        async with AsyncExitStack() as stack:
            await start_workers(stack, works, fails)
    assert stopped == [works]


async def test_started_workers_are_drained_if_the_start_is_cancelled() -> None:
    stopped: list[Worker] = []
    works, waits = Worker(stopped), Worker(stopped)
    waits.start = asyncio.Event().wait  # type: ignore[assignment,method-assign]
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(start_workers(stack, works, waits))
        await settle()
        starting.cancel()
        await asyncio.wait([starting])
    assert stopped == [works, waits]


async def test_a_worker_that_fails_to_stop_does_not_shorten_the_drain_of_others() -> None:
    stopped: list[Worker] = []
    fails, works = Worker(stopped, stop=ValueError("a bug")), Worker(stopped)
    async with AsyncExitStack() as stack:
        await start_workers(stack, fails, works)
    assert stopped == [works]


@in_virtual_time()
async def test_a_start_without_need_of_clickhouse_waits_only_until_it_is_known_to_be_away() -> None:
    is_away = asyncio.Event()
    tables: asyncio.Task[Any] = asyncio.create_task(asyncio.Event().wait())
    recording = Recording(tables, None, StartupRetries(Dependency(), ends_when_refused=False))  # type: ignore[arg-type]
    starting = asyncio.create_task(recording.until_started(unless=is_away))
    await asyncio.sleep(3600)
    assert not starting.done()
    is_away.set()
    await asyncio.wait_for(starting, 5)
    await recording.stop(0)
    tables.cancel()


async def test_probes_stop_before_their_connections_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe of closed connections was logged and counted as an outage of ClickHouse, if a process stopped at the wrong
    moment.
    """
    ended: list[str] = []
    has_started = asyncio.Event()

    def note_end(part: type[Any], method: str) -> None:
        end = getattr(part, method)

        async def noted(self: Any) -> None:
            ended.append(part.__name__)
            await end(self)

        monkeypatch.setattr(part, method, noted)

    for part, method in ((Probes, "stop"), (Connections, "close"), (BrokerProbe, "close")):
        note_end(part, method)
    monkeypatch.setattr(Probes, "start", lambda _: has_started.set())
    settings = Settings(_env_file=None, kafka_bootstrap_servers="127.0.0.1:1", clickhouse_url="http://127.0.0.1:1", http_port=0)  # type: ignore[call-arg,unused-ignore]
    async with AsyncExitStack() as stack:
        context = start_context(settings, frozenset({Role.RECORDER}), stack, ends_when_refused=False)
        starting = asyncio.create_task(start(context))
        await asyncio.wait_for(has_started.wait(), 30)
        starting.cancel()
        await asyncio.wait([starting])
    assert ended == ["Probes", "Connections", "BrokerProbe"]


async def test_a_process_that_waits_for_kafka_is_among_those_of_its_role(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, the dashboard of the role does not show why it is not ready."""
    is_serving = asyncio.Event()
    monkeypatch.setattr(Probes, "start", lambda _: is_serving.set())
    settings = Settings(_env_file=None, kafka_bootstrap_servers="127.0.0.1:1", clickhouse_url="http://127.0.0.1:1", http_port=0)  # type: ignore[call-arg,unused-ignore]

    def shown() -> float | None:
        return metrics.registry.get_sample_value("oms_webhooks_role", {"role": "recorder"})

    async with AsyncExitStack() as stack:
        context = start_context(settings, frozenset({Role.RECORDER}), stack, ends_when_refused=False)
        starting = asyncio.create_task(start(context))
        await asyncio.wait_for(is_serving.wait(), 30)
        assert shown() == 1
        assert metrics.registry.get_sample_value("oms_webhooks_ready", {"check": "startup"}) == 0
        starting.cancel()
        await asyncio.wait([starting])
    assert shown() is None
