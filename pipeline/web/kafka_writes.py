"""Waits until Kafka has confirmed what a request writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.ops.logs import logger
from pipeline.web.errors import ApiError

log = logger(__name__)


@asynccontextmanager
async def confirmed_within(seconds: float, problem: str) -> AsyncIterator[None]:
    """Give Kafka a time limit for the writes in the block.

    Raises:
        ApiError: 503 with ``problem``, Kafka has not confirmed them in time.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        log.warning("Kafka has not confirmed a write in time", answer=problem)
        raise ApiError(503, problem) from None
