"""Steps of a start that are taken at once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from consumers.run import _together
from consumers.startup import StartupRetries
from pipeline.broker.errors import TopicError


async def test_steps_wait_for_each_other_only_at_the_end() -> None:
    met = asyncio.Barrier(2)

    async def step() -> None:
        await met.wait()

    await _together(step(), step())
    assert met.n_waiting == 0


async def test_when_a_step_fails_the_others_end_before_it_is_told() -> None:
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
        await _together(waits(), fails())
    assert ended == ["waits"]


class Dependency:
    """In the place of the probe: it answers, always."""

    def __init__(self) -> None:
        self.outage = SimpleNamespace(dependency="Kafka", problem=None)

    def problem(self) -> str | None:
        return None

    async def ask(self) -> bool:
        return True

    async def until_up(self) -> None:
        """It is."""


async def test_what_is_refused_is_told_until_it_works_whatever_else_works() -> None:
    """Several steps are taken at once: one that succeeds says nothing of another."""
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
