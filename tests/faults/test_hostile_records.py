"""Corrupt and hostile records among good ones: every good one is delivered, every bad one is a dead letter, once."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime

import pytest

from pipeline.devtools.simulator import Shop
from tests.faults.endpoints import wanted_by
from tests.faults.evidence import Event
from tests.faults.hostile import Planted, end_with_good_ones, plant
from tests.faults.scenario import Stage

pytestmark = [pytest.mark.apache, pytest.mark.slow, pytest.mark.timeout(1800)]

MODELS = 18
"""Events that hostile records are made from; a third of them is published in unusual forms, a third in transactions."""
ROUNDS = 3


async def test_hostile_records_stop_nothing(stage: Stage) -> None:
    async with stage.play("hostile records") as run:
        settings = run.deployment.settings
        servers, topics = settings.kafka_bootstrap_servers, settings.topics
        everything = Planted()
        spare = Shop(seed=run.seed + 1).events(1.0, datetime.now(UTC))
        for number in range(1, ROUNDS + 1):
            models = run.take(MODELS)
            async with run.under_load(waves=ROUNDS):
                planted = await asyncio.to_thread(plant, servers, topics, models, run.chance)
            everything.add(planted)
            everything.add(await asyncio.to_thread(end_with_good_ones, servers, topics, settings.kafka_partitions, spare))
            run.say(f"round {number} of {ROUNDS}: {len(planted.unusable)} unusable records, {len(planted.aborted)} taken back")
        run.deployment.events += [Event(event.id, position, wanted_by(event)) for event, position in everything.good]
        run.deployment.hostile_records = everything.records - len(everything.good)
        found = await run.prove(most_duplicates=0, dead_letters=len(everything.unusable))
        set_aside = Counter(letter.source for letter in found.dead_letters)
        assert set_aside == Counter(everything.unusable.keys()), "each unusable record is a dead letter once, and nothing else is"
        delivered = {request.event_id for request in found.requests}
        assert not delivered & set(everything.aborted), "an event was delivered though its transaction was aborted"
