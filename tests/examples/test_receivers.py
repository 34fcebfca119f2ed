"""The example receivers of the documentation, each in its own process, with real deliveries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from schemas.event import EventType
from tests.examples.languages import LANGUAGES, Example
from tests.integration.conftest import Pipeline, StartPipeline, event_bytes
from tests.waiting import until

PATIENCE = 120.0
"""In seconds: an interpreter starts slowly on a busy machine."""

pytestmark = [pytest.mark.examples, pytest.mark.timeout(900), pytest.mark.parametrize("language", LANGUAGES)]


async def listening(example: Example) -> bool:
    example.output()  # fails if it has ended
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.post(example.url)).status_code == 401
    except httpx.TransportError:
        return False


async def attempts_of(pipeline: Pipeline, event_id: str, count: int) -> list[dict[str, Any]]:
    found = await pipeline.attempts(event_id_eq=event_id)
    return found if len(found) >= count else []


async def handled(example: Example, event_id: str) -> bool:
    return event_id in example.handled()


async def test_deliveries_are_verified_acknowledged_and_handled_once(example: Example, start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        endpoint = await pipeline.register(example.url)
        example.start(endpoint["secret"])
        await until(partial(listening, example), seconds=PATIENCE)
        for event_type in EventType:
            await pipeline.publish(event_bytes(f"evt-{event_type}", event_type))
        for event_type in EventType:
            (attempt,) = await until(partial(attempts_of, pipeline, f"evt-{event_type}", 1), seconds=PATIENCE)
            assert (attempt["state"], attempt["http_status_code"], attempt["attempt"]) == ("succeeded", 204, 1)
            await until(partial(handled, example, f"evt-{event_type}"), seconds=PATIENCE)

        # The same event again, as after a crash: acknowledged, but not handled again.
        await pipeline.publish(event_bytes("evt-order_completed"))
        again = await until(partial(attempts_of, pipeline, "evt-order_completed", 2), seconds=PATIENCE)
        assert [attempt["http_status_code"] for attempt in again] == [204, 204]
        # While a secret is rotated, requests have signatures of both: a receiver with the old one continues.
        assert (await pipeline.api.post(f"endpoints/{endpoint['id']}/rotate_secret")).status_code == 200
        await pipeline.publish(event_bytes("evt-last"))
        await until(partial(handled, example, "evt-last"), seconds=PATIENCE)
        assert sorted(example.handled()) == sorted([*(f"evt-{event_type}" for event_type in EventType), "evt-last"])


async def test_a_wrong_signature_is_refused(example: Example, start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        endpoint = await pipeline.register(example.url, [EventType.ORDER_COMPLETED])
        # It has its own secret, which the example does not know.
        await pipeline.register(f"{example.url}?other", [EventType.ORDER_CANCELLED])
        example.start(endpoint["secret"])
        await until(partial(listening, example), seconds=PATIENCE)

        await pipeline.publish(event_bytes("evt-forged", EventType.ORDER_CANCELLED))
        attempts = await until(partial(attempts_of, pipeline, "evt-forged", 6), seconds=PATIENCE)
        assert {(attempt["http_status_code"], attempt["state"]) for attempt in attempts} == {(401, "failed")}

        body, now = event_bytes("evt-by-hand"), datetime.now(UTC)
        key = Webhook(endpoint["secret"])
        for signed_at, sent in ((now - timedelta(minutes=6), body), (now + timedelta(minutes=6), body), (now, body + b" ")):
            headers = {
                "webhook-id": "evt-by-hand",
                "webhook-timestamp": str(int(signed_at.timestamp())),
                "webhook-signature": key.sign("evt-by-hand", signed_at, body.decode()),
            }
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.post(example.url, content=sent, headers=headers)).status_code == 401

        await pipeline.publish(event_bytes("evt-right"))
        await until(partial(handled, example, "evt-right"), seconds=PATIENCE)
        assert example.handled() == ["evt-right"]


async def test_receivers_answer_before_long_work_and_lose_nothing_when_killed(
    example: Example, start_pipeline: StartPipeline
) -> None:
    async with start_pipeline() as pipeline:
        endpoint = await pipeline.register(example.url)
        example.start(endpoint["secret"], work_seconds=600)
        await until(partial(listening, example), seconds=PATIENCE)
        for number in range(3):
            await pipeline.publish(event_bytes(f"evt-{number}"))
        for number in range(3):
            (attempt,) = await until(partial(attempts_of, pipeline, f"evt-{number}", 1), seconds=PATIENCE)
            assert (attempt["http_status_code"], attempt["attempt"]) == (204, 1)
        assert example.handled() == []

        example.kill()
        example.start(endpoint["secret"])
        for number in range(3):
            await until(partial(handled, example, f"evt-{number}"), seconds=PATIENCE)
        assert len(example.handled()) == 3
