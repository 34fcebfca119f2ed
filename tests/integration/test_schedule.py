"""The schedule of the retries changes from one start to the next."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from pipeline.devtools.receiver import Behaviour, Receiver
from pipeline.endpoints.vault import Vault
from schemas.topics import parse_delay
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until


@pytest.mark.slow  # two starts; test_path.py covers that the topic of such a delay is read
async def test_a_delay_that_leaves_the_schedule_strands_no_delivery(start_pipeline: StartPipeline) -> None:
    key = SecretStr(Vault.new_key())
    async with start_pipeline(retry_delays=(parse_delay("3s"),), encryption_key=key) as before:
        receiver = Receiver("back soon", behaviour=Behaviour(fail_first=1))
        url = await receiver.start()
        receiver.secret = (await before.register(url))["secret"]
        await before.publish(event_bytes("evt-waits"))
        await until(lambda: before.attempts(event_id_eq="evt-waits"))
    async with start_pipeline(retry_delays=(parse_delay("1m"),), encryption_key=key):
        await until(lambda: _acknowledged(receiver, 1))
    await receiver.stop()
    assert receiver.attempts["evt-waits"] == 2


async def _acknowledged(receiver: Receiver, wanted: int) -> bool:
    return receiver.counts.acknowledged >= wanted
