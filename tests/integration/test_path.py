"""An OMS event in, a webhook out, repeated, recorded, found again: on a real broker, real HTTP and the real ClickHouse engine."""

from __future__ import annotations

import json
from typing import Any

import standardwebhooks
from pydantic import SecretStr

from pipeline.endpoints.vault import Vault
from pipeline.playground.receiver import Behaviour, Receiver
from schemas.event import EventType
from schemas.topics import parse_delay
from tests.integration.conftest import Pipeline, StartPipeline, event_bytes, eventually


async def test_an_event_reaches_its_subscribers_and_is_found_by_its_body(start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        orders = await pipeline.receiver("orders", events=[EventType.ORDER_COMPLETED], token="letmein")
        stock = await pipeline.receiver("stock", events=[EventType.STOCK_ITEM_OUT_OF_STOCK])
        value = event_bytes("evt-1", number="R758805215", note="a Very Special needle-42")
        await pipeline.publish(value)
        await eventually(lambda: _acknowledged(orders, 1))
        received = orders.deliveries[0]

        # With a public verifier, over the bytes that arrived.
        standardwebhooks.Webhook(orders.secret or "").verify(received.body, dict(received.headers))
        assert received.headers["authorization"] == "Bearer letmein"
        body = json.loads(received.body)
        assert body.keys() == {"id", "event_name", "created_at", "data"}
        assert (body["id"], body["event_name"]) == ("evt-1", "order_completed")
        assert body["data"] == json.loads(value)["data"]
        assert received.headers["webhook-id"] == "evt-1"

        found = await eventually(lambda: pipeline.attempts(request_body_cont="SPECIAL NEEDLE-4"))
        assert [(each["order_number"], each["state"], each["attempt"]) for each in found] == [("R758805215", "succeeded", 1)]
        detail = (await pipeline.api.get(f"attempts/{found[0]['id']}")).json()
        assert detail["request_body"].encode() == received.body
        assert "letmein" not in json.dumps(detail)

        for filters in (
            {"order_number_eq": "R758805215"},
            {"endpoint_id_eq": found[0]["endpoint_id"]},
            {"event_name_eq": "order_completed"},
            {"state_eq": "succeeded"},
        ):
            assert [each["id"] for each in await pipeline.attempts(**filters)] == [found[0]["id"]], filters
        assert await pipeline.attempts(request_body_cont="no such thing") == []
        assert await pipeline.attempts(state_eq="failed") == []
        assert stock.counts.received == 0


async def test_a_failed_notification_is_repeated_with_the_same_id_and_body(start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("flaky", Behaviour(fail_first=2, status=503))
        await pipeline.publish(event_bytes("evt-flaky"))
        await eventually(lambda: _acknowledged(receiver, 1))
        attempts = await eventually(lambda: _all_recorded(pipeline, "evt-flaky", 3))
        assert [(each["attempt"], each["outcome"], each["http_status_code"]) for each in attempts] == [
            (1, "repeated", 503),
            (2, "repeated", 503),
            (3, "delivered", 204),
        ]
        assert {each.headers["webhook-id"] for each in receiver.deliveries} == {"evt-flaky"}
        assert len({each.body for each in receiver.deliveries}) == 1
        # Each attempt is signed anew, with its own time.
        assert receiver.counts.bad_signature == 0


async def test_all_seven_event_types_arrive(start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("everything")
        for name in EventType:
            await pipeline.publish(event_bytes(f"evt-{name.value}", name))
        await eventually(lambda: _acknowledged(receiver, len(EventType)))
        arrived = {json.loads(each.body)["event_name"] for each in receiver.deliveries}
        assert arrived == {name.value for name in EventType}


async def test_filters_choose_by_payload(start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        subscriptions = await pipeline.receiver("subscriptions", filters={"channel": ["subscriptions"]})
        everything = await pipeline.receiver("everything")
        await pipeline.publish(event_bytes("evt-shop", channel="spree"))
        await pipeline.publish(event_bytes("evt-instalment", channel="subscriptions"))
        await eventually(lambda: _acknowledged(everything, 2))
        await eventually(lambda: _acknowledged(subscriptions, 1))
        assert set(subscriptions.acknowledgements) == {"evt-instalment"}


async def test_the_payload_arrives_byte_for_byte_without_the_guest_token(start_pipeline: StartPipeline) -> None:
    odd = (
        '{ "number" : "R7", "total":1.50,"x":1E2 , "name":"G\\u00fcnther", "token":"guest-credential", "nested":{"token":"kept"}}'
    )
    value = f'{{"id":"evt-odd","event_name":"order_completed","occurred_at":"2026-03-02T16:04:00+01:00","data":{odd}}}'.encode()
    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("exact")
        await pipeline.publish(value)
        await eventually(lambda: _acknowledged(receiver, 1))
        body = receiver.deliveries[0].body
        assert b'"created_at":"2026-03-02T15:04:00.000Z"' in body
        for kept in (b'"total":1.50', b'"x":1E2', b'"G\\u00fcnther"', b'{"token":"kept"}'):
            assert kept in body
        assert b"guest-credential" not in body
        detail = await eventually(lambda: pipeline.attempts(event_id_eq="evt-odd"))
        shown = (await pipeline.api.get(f"attempts/{detail[0]['id']}")).text
        assert "guest-credential" not in shown


async def _acknowledged(receiver: Receiver, wanted: int) -> bool:
    return receiver.counts.acknowledged >= wanted


async def _all_recorded(pipeline: Pipeline, event_id: str, wanted: int) -> list[dict[str, Any]]:
    found = await pipeline.attempts(event_id_eq=event_id)
    return sorted(found, key=lambda each: int(each["attempt"])) if len(found) >= wanted else []


async def test_a_delay_that_leaves_the_schedule_strands_no_delivery(start_pipeline: StartPipeline) -> None:
    key = SecretStr(Vault.new_key())
    async with start_pipeline(retry_delays=(parse_delay("3s"),), encryption_key=key) as before:
        receiver = Receiver("back soon", behaviour=Behaviour(fail_first=1))
        url = await receiver.start()
        receiver.secret = (await before.register(url))["secret"]
        await before.publish(event_bytes("evt-waits"))
        await eventually(lambda: before.attempts(event_id_eq="evt-waits"))
    async with start_pipeline(retry_delays=(parse_delay("1m"),), encryption_key=key):
        await eventually(lambda: _acknowledged(receiver, 1))
    await receiver.stop()
    assert receiver.attempts["evt-waits"] == 2
