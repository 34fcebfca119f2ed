"""No consumer guesses at a newer major version: it becomes a dead letter with advice; an endpoint of that kind stops the role."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pipeline.endpoints.registry import NewerEndpointError
from schemas.codec import from_header
from schemas.delivery import DEAD_LETTER_HEADER, DeadLetter, DeadLetterReason
from tests.unit.consumers.fanout_case import Scene as FanOutScene
from tests.unit.consumers.test_recorder import Scene as RecorderScene
from tests.unit.consumers.test_retry import Scene as RetryScene
from tests.unit.endpoints.registry_case import registry
from tests.unit.fake_kafka import FakeProducer
from tests.unit.sample_events import endpoint_record
from tests.unit.upgrade.golden import as_kind, wire

READERS_FIRST = (
    "schema_version 2; this release reads up to 1. Upgrade the roles that read a record before the roles that write it"
)


def only_letter(producer: FakeProducer) -> DeadLetter:
    [sent] = producer.sent
    assert sent.topic.endswith("webhooks.dead-letters")
    return from_header(sent.headers, DEAD_LETTER_HEADER, DeadLetter)


async def test_the_fan_out_makes_an_event_a_dead_letter() -> None:
    scene = FanOutScene(endpoint_record(7, events=("shipment_shipped",)))

    await scene.fan_out.handle(as_kind("event", "", schema_version=2))

    letter = only_letter(scene.producer)
    assert letter.reason is DeadLetterReason.UNSUPPORTED_VERSION
    assert "schema_version 2; this release reads up to 1. Upgrade OMS webhooks before its producers" in letter.detail
    assert scene.delivery_service.delivered == []


async def test_the_retry_makes_a_delivery_a_dead_letter_with_its_body() -> None:
    scene = RetryScene(endpoint_record(7))
    newer = as_kind("delivery", "", prefix="t.", schema_version=2)

    await scene.retry.handle(newer)

    letter = only_letter(scene.producer)
    assert letter.reason is DeadLetterReason.UNSUPPORTED_VERSION
    assert READERS_FIRST in letter.detail
    # Everything needed to publish it again after the upgrade is there.
    assert scene.producer.sent[0].value == newer.value
    assert scene.producer.sent[0].headers[:-1] == newer.headers
    assert (scene.delivery_service.delivered, scene.delivery_service.discarded) == ([], [])


@pytest.fixture
async def recorder() -> AsyncIterator[RecorderScene]:
    scene = RecorderScene()
    yield scene
    tasks = [queue.task for queue in scene.recorder._queues.values()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("name", ["attempt", "dispatch", "endpoint"])
async def test_the_recorder_makes_unreadable_records_dead_letters(recorder: RecorderScene, name: str) -> None:
    newest = 2 if name == "endpoint" else 1
    await recorder.take(as_kind(name, "", prefix="t.", schema_version=newest + 1))

    letter = only_letter(recorder.producer)
    assert letter.reason is DeadLetterReason.UNSUPPORTED_VERSION
    assert (
        READERS_FIRST.replace("2; this release reads up to 1", f"{newest + 1}; this release reads up to {newest}")
        in letter.detail
    )
    assert recorder.writer.rows == []
    assert len(recorder.consumer.finished) == 1
    assert not recorder.recorder.failed.done()


async def test_the_recorder_still_records_a_newer_dead_letter(recorder: RecorderScene) -> None:
    """It must not become another dead letter, which would become another one."""
    await recorder.take(as_kind("dead_letter", "", prefix="t.", schema_version=2))

    [(_, _, row)] = recorder.writer.rows
    assert any(READERS_FIRST in str(cell) for cell in row)
    assert recorder.producer.sent == []


@pytest.mark.parametrize("name", ["attempt", "dispatch", "dead_letter", "endpoint"])
@pytest.mark.parametrize("kind", ["", ".oldest", ".newer"])
async def test_the_recorder_reads_every_minor_version(recorder: RecorderScene, name: str, kind: str) -> None:
    await recorder.take(as_kind(name, kind, prefix="t."))

    assert len(recorder.writer.rows) == 1
    assert recorder.producer.sent == []


# --- endpoints: without them, nothing may be decided ---


async def test_a_role_does_not_start_with_an_endpoint_of_a_newer_release() -> None:
    made = registry()

    made.table._on_records([as_kind("endpoint", "", schema_version=3)])

    with pytest.raises(
        NewerEndpointError, match=r"Endpoint 7 was written by a newer release.*the API comes last.*Nothing is lost"
    ):
        made.refuse_newer()


async def test_a_running_role_ends_and_keeps_the_endpoint_until_then() -> None:
    made = registry()
    made.table._caught_up = asyncio.get_running_loop().create_future()
    made.table.stopped = asyncio.get_running_loop().create_future()
    made.table._apply([wire("endpoint")], 42, caught_up=True)
    before = made.get(7)
    assert before is not None

    made.table._apply([as_kind("endpoint", "", schema_version=3)], 43, caught_up=True)
    made.table._apply([as_kind("endpoint", ".oldest")], 44, caught_up=True)

    assert made.table._stopping.is_set(), "the thread ends"
    assert made.get(7) is before, "not deleted, not changed: no delivery is discarded"
    made.table._stop(None)  # what the thread does at its end
    with pytest.raises(NewerEndpointError, match="Endpoint 7"):
        await made.table.stopped


async def test_an_endpoint_rewritten_in_our_version_is_read() -> None:
    made = registry()

    made.table._on_records([as_kind("endpoint", "", schema_version=3), as_kind("endpoint", "")])

    made.refuse_newer()
    assert made.get(7) is not None


async def test_an_endpoint_deleted_in_a_newer_version_does_not_prevent_the_start() -> None:
    made = registry()

    made.table._on_records([as_kind("endpoint", "", schema_version=3), as_kind("endpoint", "")._replace(value=None)])

    made.refuse_newer()
    assert made.get(7) is None


async def test_other_damage_does_not_stop_a_role() -> None:
    made = registry()
    made.table.is_caught_up = True

    made.table._on_records([as_kind("endpoint", ""), as_kind("endpoint", "")._replace(value=b"{"), wire("endpoint_claim")])

    assert made.get(7) is not None
