"""Runs steps of a start or a stop concurrently, so that one that fails leaves nothing running, and does not keep another from ending."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

from pipeline.ops.logs import logger

log = logger(__name__)


async def together(*steps: Coroutine[Any, Any, object]) -> None:
    """Run steps of the start concurrently. If one fails, the others are cancelled."""
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            await cancel(task)


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task, and return when it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def stopped(stopping: Awaitable[object]) -> None:
    """Wait until a part has stopped. An error is only logged."""
    try:
        await stopping
    except Exception as error:  # noqa: BLE001 - the part reported it through its future; the others must still be stopped
        log.warning("a part did not stop cleanly", error=repr(error))
