"""Every form of a record, through the embedded broker to a receiver; and a resend of what was stored."""

from __future__ import annotations

import json

import pytest

from pipeline.devtools.receiver import Receiver
from tests.integration.conftest import Pipeline, StartPipeline
from tests.unit.schemas.producer_records import AS_PUBLISHED, OF_THE_PACKAGE, PAYLOAD
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts whole pipelines; make test-slow and make test-kafka run it


async def test_every_form_is_delivered_and_resent(start_pipeline: StartPipeline) -> None:
    records = AS_PUBLISHED | OF_THE_PACKAGE
    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("forms")
        topic = pipeline.settings.topics.orders
        for record in records.values():
            await pipeline.producer.send(topic, key=record.key, value=record.value, headers=record.headers)
        await until(lambda: _acknowledged(receiver, len(records)))

        bodies = [each.body for each in receiver.deliveries]
        assert all(json.loads(body) == json.loads(bodies[0]) for body in bodies)
        wanted = f'{{"id":"evt-1","event_name":"order_completed","created_at":"2026-03-02T15:04:00.512Z","data":{PAYLOAD}}}'
        assert bodies.count(wanted.encode()) >= len(AS_PUBLISHED)

        attempts = await until(lambda: pipeline.attempts(order_number_eq="R1"))
        await until(lambda: _resent(pipeline, attempts[0]["id"]))  # the body may be recorded after the attempt
        await until(lambda: _acknowledged(receiver, len(records) + 1))
        assert receiver.deliveries[-1].body in bodies


async def _resent(pipeline: Pipeline, attempt_id: int) -> bool:
    answer = await pipeline.api.post(f"attempts/{attempt_id}/resend")
    assert answer.status_code in (202, 409), answer.text
    return answer.status_code == 202


async def _acknowledged(receiver: Receiver, wanted: int) -> bool:
    return receiver.counts.acknowledged >= wanted
