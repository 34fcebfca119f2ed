"""Fixtures of the recorder's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    # Not imported here: kafka-python warns while it is imported, and conftests are read before that warning is ignored.
    from tests.unit.consumers.queue_case import Scene


@pytest.fixture
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumers.recorder._BACKOFF_S", (0.001, 0.002))


@pytest.fixture
async def scenes(_quick_backoff: None) -> AsyncIterator[list[Scene]]:
    """Scenes whose queues are ended when the test is over. They try again at once."""
    made: list[Scene] = []
    yield made
    for scene in made:
        scene.queue.task.cancel()
        await scene.ended()
