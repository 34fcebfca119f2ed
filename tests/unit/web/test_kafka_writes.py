"""The time limit for what Kafka is to confirm."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.web.errors import ApiError
from pipeline.web.kafka_writes import confirmed_within


async def test_what_is_not_confirmed_in_time_is_503() -> None:
    with pytest.raises(ApiError) as refused:
        async with confirmed_within(0.01, "Kafka did not confirm the change in time."):
            await asyncio.get_running_loop().create_future()
    assert (refused.value.status, str(refused.value)) == (503, "Kafka did not confirm the change in time.")
