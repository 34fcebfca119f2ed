"""From OMS event to webhook: delivered, retried, recorded and found, with a real broker, real HTTP and the real ClickHouse engine.

Most tests take a second or more: retries wait for their delays, and an attempt is found when the recorder has written its batch.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import standardwebhooks
from pydantic import SecretStr

from pipeline.broker.factory import open_broker
from pipeline.core.signing import new_secret
from pipeline.devtools.receiver import Behaviour, Receiver
from pipeline.ops.settings import Settings
from schemas.codec import to_header
from schemas.delivery import DELIVERY_HEADER, DeliveryRecord, Trigger
from schemas.event import EventType
from schemas.topics import parse_delay
from tests.integration.answers import Endpoint, every_endpoint_gets, reset, status, truncated
from tests.integration.conftest import Pipeline, event_bytes, run_pipeline
from tests.integration.test_endpoint_health import GONE, WORKING, bodies, until_shown
from tests.unit.sample_events import META
from tests.waiting import until

FORMER_DELAY = "400ms"
"""A delay that is no longer in the pipeline's schedule."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def owner() -> Receiver:
    """Provide the receiver of the pipeline's operational events."""
    return Receiver("owner", secret=new_secret())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    owner: Receiver,
    bootstrap_servers: str,
    migrated_clickhouse: Path,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Pipeline]:
    """Run one pipeline for all tests of this file: starting one takes longer than a test."""
    directory = Path(shutil.copytree(migrated_clickhouse, tmp_path_factory.mktemp("path") / "clickhouse", symlinks=True))
    place: dict[str, Any] = {"clickhouse_path": directory, "clickhouse_database": "oms_webhooks"}
    place |= {"metrics_top_endpoints": 100}
    place |= {"operational_url": f"{await owner.start()}owner", "operational_secret": SecretStr(owner.secret or "")}
    apache = request.config.getoption("--kafka") == "apache"
    prefix = f"t{secrets.token_hex(4)}."
    _make_topic_of_an_earlier_schedule(bootstrap_servers, prefix)
    async with run_pipeline(bootstrap_servers, prefix, apache=apache, **place) as running:
        yield running
    await owner.stop()


def _make_topic_of_an_earlier_schedule(bootstrap_servers: str, prefix: str) -> None:
    earlier = Settings(
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_topic_prefix=prefix,
        kafka_replication_factor=1,
        retry_delays=(parse_delay(FORMER_DELAY),),
    )
    with open_broker(earlier).admin() as admin:
        admin.create_missing([spec for spec in earlier.topics.specs() if spec.name.endswith(f".{FORMER_DELAY}")])


@pytest_asyncio.fixture(loop_scope="module")
async def pipeline(shared: Pipeline) -> AsyncIterator[Pipeline]:
    """Provide the pipeline, without endpoints of earlier tests."""
    yield shared
    for endpoint in (await shared.api.get("endpoints")).json()["endpoints"]:
        assert (await shared.api.delete(f"endpoints/{endpoint['id']}")).status_code == 204
    while shared.receivers:
        await shared.receivers.pop().stop()


async def test_an_event_reaches_its_subscribers_and_is_found_by_its_body(pipeline: Pipeline) -> None:
    orders = await pipeline.receiver("orders", events=[EventType.ORDER_COMPLETED], token="letmein")
    stock = await pipeline.receiver("stock", events=[EventType.STOCK_ITEM_OUT_OF_STOCK])
    value = event_bytes("evt-1", number="R758805215", note="a Very Special needle-42")
    await pipeline.publish(value)
    await until(lambda: _acknowledged(orders, 1))
    received = orders.deliveries[0]

    # With a public verifier, on the bytes as received.
    standardwebhooks.Webhook(orders.secret or "").verify(received.body, dict(received.headers))
    assert received.headers["authorization"] == "Bearer letmein"
    body = json.loads(received.body)
    assert body.keys() == {"id", "event_name", "created_at", "data"}
    assert (body["id"], body["event_name"]) == ("evt-1", "order_completed")
    assert body["data"] == json.loads(value)["data"]
    assert received.headers["webhook-id"] == "evt-1"

    found = await until(lambda: pipeline.attempts(request_body_cont="SPECIAL NEEDLE-4"))
    assert [(each["order_number"], each["state"], each["attempt"]) for each in found] == [("R758805215", "succeeded", 1)]
    detail = (await pipeline.api.get(f"attempts/{found[0]['id']}")).json()
    assert detail["request_body"].encode() == received.body
    assert "letmein" not in json.dumps(detail)

    for filters in (
        {"order_number_eq": "R758805215"},
        {"endpoint_id_eq": found[0]["endpoint_id"]},
        {"event_name_eq": "order_completed", "order_number_eq": "R758805215"},
        {"state_eq": "succeeded", "order_number_eq": "R758805215"},
    ):
        assert [each["id"] for each in await pipeline.attempts(**filters)] == [found[0]["id"]], filters
    assert await pipeline.attempts(request_body_cont="no such thing") == []
    assert await pipeline.attempts(state_eq="failed", order_number_eq="R758805215") == []
    assert stock.counts.received == 0


async def test_a_failed_notification_is_retried_with_the_same_id_and_body(pipeline: Pipeline) -> None:
    receiver = await pipeline.receiver("flaky", Behaviour(fail_first=2, status=503))
    await pipeline.publish(event_bytes("evt-flaky"))
    await until(lambda: _acknowledged(receiver, 1))
    attempts = await until(lambda: _all_recorded(pipeline, "evt-flaky", 3))
    assert [(each["attempt"], each["outcome"], each["http_status_code"]) for each in attempts] == [
        (1, "repeated", 503),
        (2, "repeated", 503),
        (3, "delivered", 204),
    ]
    assert {each.headers["webhook-id"] for each in receiver.deliveries} == {"evt-flaky"}
    assert len({each.body for each in receiver.deliveries}) == 1
    # Each attempt has its own signature and timestamp.
    assert receiver.counts.bad_signature == 0
    metrics = (await pipeline.api.get(pipeline.api.base_url.copy_with(path="/metrics"))).text
    counted = f'oms_webhooks_endpoint_attempts_total{{endpoint="{attempts[0]["endpoint_id"]}",outcome="repeated"}}'
    assert f"{counted} 2.0" in metrics
    assert "oms_webhooks_slow_endpoints 0.0" in metrics


async def test_all_seven_event_types_are_delivered(pipeline: Pipeline) -> None:
    receiver = await pipeline.receiver("everything")
    for name in EventType:
        await pipeline.publish(event_bytes(f"evt-{name.value}", name))
    await until(lambda: _acknowledged(receiver, len(EventType)))
    arrived = {json.loads(each.body)["event_name"] for each in receiver.deliveries}
    assert arrived == {name.value for name in EventType}


async def test_filters_select_by_payload(pipeline: Pipeline) -> None:
    subscriptions = await pipeline.receiver("subscriptions", filters={"channel": ["subscriptions"]})
    everything = await pipeline.receiver("everything")
    await pipeline.publish(event_bytes("evt-shop", channel="spree"))
    await pipeline.publish(event_bytes("evt-instalment", channel="subscriptions"))
    await until(lambda: _acknowledged(everything, 2))
    await until(lambda: _acknowledged(subscriptions, 1))
    assert set(subscriptions.acknowledgements) == {"evt-instalment"}


async def test_the_payload_is_delivered_byte_for_byte_without_the_guest_token(pipeline: Pipeline) -> None:
    odd = (
        '{ "number" : "R7", "total":1.50,"x":1E2 , "name":"G\\u00fcnther", "token":"guest-credential", "nested":{"token":"kept"}}'
    )
    value = f'{{"id":"evt-odd","event_name":"order_completed","occurred_at":"2026-03-02T16:04:00+01:00","data":{odd}}}'.encode()
    receiver = await pipeline.receiver("exact")
    await pipeline.publish(value)
    await until(lambda: _acknowledged(receiver, 1))
    body = receiver.deliveries[0].body
    assert b'"created_at":"2026-03-02T15:04:00.000Z"' in body
    for kept in (b'"total":1.50', b'"x":1E2', b'"G\\u00fcnther"', b'{"token":"kept"}'):
        assert kept in body
    assert b"guest-credential" not in body
    detail = await until(lambda: pipeline.attempts(event_id_eq="evt-odd"))
    shown = (await pipeline.api.get(f"attempts/{detail[0]['id']}")).text
    assert "guest-credential" not in shown


async def test_only_200_201_202_and_204_acknowledge(pipeline: Pipeline) -> None:
    codes = {200: 1, 201: 1, 202: 1, 204: 1} | dict.fromkeys((203, 206, 301, 302, 307, 400, 404, 429, 500, 503), 6)
    endpoints = {str(code): Endpoint(status(code)) for code in codes}
    wanted = {str(code): attempts for code, attempts in codes.items()}
    endpoints |= {"connection_reset": Endpoint(reset), "truncated_response": Endpoint(truncated)}
    wanted |= {"connection_reset": 6, "truncated_response": 6}
    await every_endpoint_gets(pipeline, endpoints, wanted)


async def test_deliveries_in_a_delay_topic_that_left_the_schedule_are_sent(pipeline: Pipeline) -> None:
    receiver = await pipeline.receiver("former")
    [endpoint] = (await pipeline.api.get("endpoints")).json()["endpoints"]
    waiting = DeliveryRecord(event=META, endpoint_id=endpoint["id"], attempt=2, trigger=Trigger.RETRY)
    topic = f"{pipeline.settings.kafka_topic_prefix}webhooks.delay.{FORMER_DELAY}"
    assert topic not in pipeline.settings.topics.delay_topics
    await pipeline.producer.send(
        topic, key=META.id.encode(), value=b'{"id":"evt_1"}', headers=[to_header(DELIVERY_HEADER, waiting)]
    )
    await until(lambda: _acknowledged(receiver, 1))
    assert [(each.webhook_id, each.body) for each in receiver.deliveries] == [(META.id, b'{"id":"evt_1"}')]


async def test_a_resend_is_the_same_notification_and_is_retried_though_unsubscribed(pipeline: Pipeline) -> None:
    receiver = await pipeline.receiver("resent", events=[EventType.ORDER_COMPLETED], headers={"X-Tenant": "acme"})
    await pipeline.publish(event_bytes("evt-resent", number="R-resent", email="günther@example.com"))
    [attempt] = await until(lambda: pipeline.attempts(order_number_eq="R-resent"))
    first = receiver.deliveries[0]
    await until(lambda: _has_body(pipeline, attempt["id"]))
    path = f"endpoints/{attempt['endpoint_id']}"
    assert (await pipeline.api.patch(path, json={"endpoint": {"events": ["shipment_shipped"]}})).status_code == 200
    receiver.behaviour = Behaviour(fail_first=3, status=503)  # the next two attempts with this webhook-id fail

    answer = await pipeline.api.post(f"attempts/{attempt['id']}/resend")
    assert (answer.status_code, answer.json()["event_id"]) == (202, "evt-resent")

    await until(lambda: _acknowledged(receiver, 2))
    assert {one.webhook_id for one in receiver.deliveries} == {"evt-resent"}
    assert {one.body for one in receiver.deliveries} == {first.body}
    assert {one.headers["x-tenant"] for one in receiver.deliveries} == {"acme"}
    attempts = await until(lambda: _all_recorded(pipeline, "evt-resent", 4))
    assert sorted((one["trigger"], one["attempt"], one["outcome"]) for one in attempts) == [
        ("event", 1, "delivered"),
        ("resend", 1, "repeated"),
        ("resend", 2, "repeated"),
        ("resend", 3, "delivered"),
    ]


async def test_410_disables_an_endpoint_and_notifies_its_owner_and_the_api_enables_it(
    pipeline: Pipeline, owner: Receiver
) -> None:
    receiver = await pipeline.receiver("erp", GONE)
    await pipeline.publish(event_bytes("evt-gone"))
    endpoint = await until_shown(pipeline, state="disabled")
    assert (endpoint["active"], endpoint["disabled_reason"]) == (False, "The endpoint returned 410 (Gone).")

    # The scheduled retry is held: it uses up no attempt, and is not recorded as one.
    await until_shown(pipeline, held_count=1)
    made = await until(lambda: pipeline.attempts(event_id_eq="evt-gone"))
    assert {each["outcome"] for each in made} == {"repeated"}

    # Its owner is notified by a signed event that is recorded like any other.
    async def told() -> list[dict[str, Any]]:
        return [body for body in bodies(owner) if body["data"]["id"] == endpoint["id"]]

    event, *again = await until(told)
    assert {each["id"] for each in again} <= {event["id"]}
    assert (event["event_name"], event["data"]["id"], event["data"]["reason"]) == (
        "endpoint.disabled",
        endpoint["id"],
        "gone",
    )
    recorded = await until(lambda: pipeline.attempts(event_id_eq=event["id"]))
    assert {(each["endpoint_id"], each["outcome"]) for each in recorded} == {(0, "delivered")}

    # What is published now is held too; once enabled again, the endpoint gets all of it.
    await pipeline.publish(event_bytes("evt-between"))
    await until_shown(pipeline, held_count=2)
    receiver.behaviour = WORKING
    started = await pipeline.api.patch(f"endpoints/{endpoint['id']}", json={"endpoint": {"active": True}})
    assert (started.json()["state"], started.json()["disabled_at"]) == ("active", None)
    await pipeline.publish(event_bytes("evt-after"))

    async def arrived() -> bool:
        return all(receiver.acknowledgements.get(event) for event in ("evt-gone", "evt-between", "evt-after"))

    await until(arrived)
    await until_shown(pipeline, held_count=0)
    assert len(await told()) == 1 + len(again)


async def _acknowledged(receiver: Receiver, wanted: int) -> bool:
    return receiver.counts.acknowledged >= wanted


async def _has_body(pipeline: Pipeline, attempt_id: int) -> bool:
    response = await pipeline.api.get(f"attempts/{attempt_id}")
    return response.status_code == 200 and response.json()["request_body"] is not None


async def _all_recorded(pipeline: Pipeline, event_id: str, wanted: int) -> list[dict[str, Any]]:
    found = await pipeline.attempts(event_id_eq=event_id)
    return sorted(found, key=lambda each: int(each["attempt"])) if len(found) >= wanted else []
