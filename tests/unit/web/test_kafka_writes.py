"""The time limit for Kafka's confirmation of a write."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.web.errors import ApiError
from pipeline.web.kafka_writes import confirmed_within


async def test_an_unconfirmed_write_answers_503() -> None:
    with pytest.raises(ApiError) as refused:
        async with confirmed_within(0.01, "Kafka did not confirm the change in time."):
            await asyncio.get_running_loop().create_future()
    assert (refused.value.status, str(refused.value)) == (503, "Kafka did not confirm the change in time.")
