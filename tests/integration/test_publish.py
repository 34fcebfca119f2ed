"""``oms-webhooks publish``: its events are delivered, those of one order in sequence."""

from __future__ import annotations

import json

import pytest

from consumers.cli.traffic import publish
from pipeline.devtools.receiver import Receiver
from schemas.event import EventType
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts whole pipelines; make test-slow and make test-kafka run it


async def test_several_events_are_delivered(start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("published")
        events = [event_bytes(f"evt-{event_type}", event_type) for event_type in EventType]
        positions = await publish(pipeline.settings, events)
        topics = pipeline.settings.topics
        assert [position.topic for position in positions] == [topics.orders] * 2 + [topics.shipments] * 3 + [
            topics.stock_items
        ] * 2
        # Events of one order have one key, and so one partition: they keep their sequence.
        assert positions[0].partition == positions[1].partition
        assert positions[0].offset < positions[1].offset
        await until(lambda: _all_arrived(receiver, len(events)))
        assert {json.loads(each.body)["event_name"] for each in receiver.deliveries} == set(EventType)


async def _all_arrived(receiver: Receiver, count: int) -> bool:
    return receiver.counts.acknowledged >= count
