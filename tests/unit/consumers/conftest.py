"""Fixtures for tests of the recorder, and for commands that call the API."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import typer.main
import typer.testing

if TYPE_CHECKING:
    # Not imported here: kafka-python warns on import, and that warning is not yet ignored when conftests are loaded.
    from tests.unit.consumers.commands import Command
    from tests.unit.consumers.queue_case import Scene
    from tests.unit.web.service import Service


@pytest.fixture
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.recorder_queue._BACKOFF_S", (0.001, 0.002))


@pytest.fixture
async def scenes(_quick_backoff: None) -> AsyncIterator[list[Scene]]:
    """Scenes whose queues are ended after the test. Retries have no delay."""
    made: list[Scene] = []
    yield made
    for scene in made:
        scene.queue.task.cancel()
        await scene.ended()


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """The running application. It logs nothing, so that only the command's output is printed."""
    from tests.unit.web.service import running_service  # noqa: PLC0415

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    async with running_service() as running:
        yield running
    structlog.reset_defaults()


@pytest.fixture
def run(service: Service) -> Command:
    """Run a command as a person with an admin key."""
    from tests.unit.consumers.commands import command_for  # noqa: PLC0415

    return command_for(service.url)


@pytest.fixture(autouse=True)
def _commands_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer rebuilds all commands for every run, which is half of the CPU time of these tests."""
    monkeypatch.setattr(typer.testing, "_get_command", _made, raising=False)


@cache
def _made(app: typer.Typer) -> Any:
    return typer.main.get_command(app)
