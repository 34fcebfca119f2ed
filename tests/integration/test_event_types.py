"""An event type added by the deployment: subscribed to, delivered from its own topic, found, tested; invalid ones become dead letters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from consumers.cli.known_event_types import types_on_kafka
from consumers.run import Role, running
from pipeline.devtools.receiver import Receiver
from pipeline.endpoints.vault import Vault
from schemas.event import EventType
from tests.integration.conftest import Pipeline, StartPipeline
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts whole pipelines; make test-slow and make test-kafka run it

FILE = Path(__file__).parents[2] / "deploy" / "event-types" / "event-types.yaml"


async def test_a_type_of_the_deployment_is_delivered_and_found(start_pipeline: StartPipeline, tmp_path: Path) -> None:
    async with start_pipeline(event_types_file=FILE, clickhouse_path=tmp_path) as pipeline:
        types, topics = pipeline.settings.event_types, pipeline.settings.topics
        topic = f"{topics.prefix}oms.refunds"
        receiver = await _receiver(pipeline, "refund_issued")
        refused = await pipeline.api.post(
            "endpoints", json={"endpoint": {"target_url": "http://127.0.0.1:9/x", "events": ["refund_lost"]}}
        )
        assert "subscription_paused" in refused.json()["errors"]["events"][0]

        sample = types.sample("refund_issued")
        good = {"id": "evt-1", "event_name": "refund_issued", "occurred_at": "2026-03-02T15:04:00Z", "data": sample}
        await pipeline.producer.send(
            topic, key=b"R204816339", value=json.dumps(good | {"id": "evt-0", "data": {"id": 1}}).encode()
        )
        await pipeline.producer.send(topic, key=b"R204816339", value=json.dumps(good).encode())
        await until(lambda: _acknowledged(receiver, 1))
        assert json.loads(receiver.deliveries[0].body)["data"] == sample

        found = await until(lambda: pipeline.attempts(order_number_eq="R204816339", event_name_eq="refund_issued"))
        assert [one["state"] for one in found] == ["succeeded"]
        letters = (await until(lambda: _letters(pipeline)))["dead_letters"]
        assert [(one["reason"], one["topic"]) for one in letters] == [("invalid_payload", topic)]

        (endpoint,) = (await pipeline.api.get("endpoints")).json()["endpoints"]
        tested = await pipeline.api.post(f"endpoints/{endpoint['id']}/test", json={"test": {"event_name": "subscription_paused"}})
        assert (tested.status_code, tested.json()["attempt"]["event_name"]) == (200, "subscription_paused")
        known = (await pipeline.api.get("event_types")).json()["event_types"]
        assert [one["name"] for one in known] == list(types.names)


async def _receiver(pipeline: Pipeline, event_name: str) -> Receiver:
    receiver = Receiver("refunds")
    pipeline.receivers.append(receiver)
    wanted = {"target_url": f"{await receiver.start()}refunds", "events": [event_name]}
    created = await pipeline.api.post("endpoints", json={"endpoint": wanted})
    assert created.status_code == 201, created.text
    receiver.secret = created.json()["secret"]
    return receiver


async def _acknowledged(receiver: Receiver, wanted: int) -> bool:
    return receiver.counts.acknowledged >= wanted


async def _letters(pipeline: Pipeline) -> dict[str, list[dict[str, str]]]:
    answer: dict[str, list[dict[str, str]]] = (await pipeline.api.get("dead_letters")).json()
    return answer if answer["dead_letters"] else {}


async def test_a_type_added_with_the_api_is_delivered_without_a_restart(start_pipeline: StartPipeline, tmp_path: Path) -> None:
    entry = {
        "name": "refund_issued",
        "topic": "oms.orders",
        "description": "Money is given back.",
        "version": 2,
        "version_at": "/v",
        "schema": {"type": "object", "required": ["v"]},
        "sample": {"v": 2, "order": "R1"},
        "references": {"order_number": "/order"},
        "earlier": [{"version": 1, "schema": {"type": "object"}, "sample": {"order": "R1"}}],
    }
    async with start_pipeline(clickhouse_path=tmp_path) as pipeline:
        added = await pipeline.api.post("event_types", json={"event_type": entry})
        assert added.status_code == 201, added.text
        assert (await types_on_kafka(pipeline.settings)).names[len(EventType) :] == ("refund_issued",), (
            "the types that publish and simulate know"
        )
        receiver = await _receiver(pipeline, "refund_issued")
        (endpoint,) = (await pipeline.api.get("endpoints")).json()["endpoints"]
        pinned = {"endpoint": {"event_type_versions": {"refund_issued": 1}}}
        assert (await pipeline.api.patch(f"endpoints/{endpoint['id']}", json=pinned)).status_code == 200
        topic = pipeline.settings.topics.orders
        for identifier, data in (("evt-2", {"v": 2, "order": "R1"}), ("evt-1", {"order": "R1"}), ("evt-3", {"v": 3})):
            event = {"id": identifier, "event_name": "refund_issued", "occurred_at": "2026-03-02T15:04:00Z", "data": data}
            await pipeline.producer.send(topic, key=b"R1", value=json.dumps(event).encode())
        letters = (await until(lambda: _letters(pipeline)))["dead_letters"]
        assert [one["reason"] for one in letters] == ["invalid_payload"]
        await until(lambda: _acknowledged(receiver, 1))
        assert [json.loads(one.body)["id"] for one in receiver.deliveries] == ["evt-1"]
        found = await until(lambda: pipeline.attempts(order_number_eq="R1", event_name_eq="refund_issued"))
        assert [one["state"] for one in found] == ["succeeded"]


REFUNDED = {"name": "refund_issued", "topic": "oms.refunds", "description": "Refunded.", "schema": {}, "sample": {"id": 1}}


async def _publish_refunds(pipeline: Pipeline, wave: str) -> set[str]:
    """Publish twenty events, and return their ids."""
    topic, ids = f"{pipeline.settings.topics.prefix}oms.refunds", [f"{wave}-{number}" for number in range(20)]
    for one in ids:
        event = {"id": one, "event_name": "refund_issued", "occurred_at": "2026-03-02T15:04:00Z", "data": {}}
        await pipeline.producer.send(topic, key=one.encode(), value=json.dumps(event).encode())
    return set(ids)


def _received(receiver: Receiver) -> set[str]:
    return {one.webhook_id for one in receiver.deliveries}


async def test_a_topic_added_with_the_api_is_created_and_read(start_pipeline: StartPipeline, tmp_path: Path) -> None:
    async with start_pipeline(clickhouse_path=tmp_path) as pipeline:
        added = await pipeline.api.post("event_types", json={"event_type": REFUNDED})
        assert (added.status_code, "was created" in added.text) == (201, True), added.text
        receiver = await _receiver(pipeline, "refund_issued")
        published = await _publish_refunds(pipeline, "first")
        await until(lambda: _acknowledged(receiver, 20))
        assert _received(receiver) == published
        assert "added topics" not in pipeline.running.health.warnings()


@pytest.mark.apache
@pytest.mark.parametrize("client", ["kafka-python", "librdkafka"])
async def test_two_fan_outs_read_an_added_topic_after_a_restart_and_without_its_type(
    start_pipeline: StartPipeline, tmp_path: Path, client: str
) -> None:
    place: dict[str, Any] = {
        "encryption_key": SecretStr(Vault.new_key()),
        "clickhouse_path": tmp_path / "clickhouse",
        "kafka_client": client,
    }
    async with start_pipeline(**place) as pipeline, running(pipeline.settings, [Role.FANOUT]) as other:
        assert (await pipeline.api.post("event_types", json={"event_type": REFUNDED})).status_code == 201
        receiver = await _receiver(pipeline, "refund_issued")
        published = await _publish_refunds(pipeline, "first")
        await until(lambda: _acknowledged(receiver, 20))
        published |= await _publish_refunds(pipeline, "later")
        await until(lambda: _acknowledged(receiver, 40))
        assert _received(receiver) == published
        assert "added topics" not in pipeline.running.health.warnings() | other.health.warnings()

    async with start_pipeline(**place) as pipeline:
        receiver = await _receiver(pipeline, "refund_issued")
        published = await _publish_refunds(pipeline, "restarted")
        await until(lambda: _acknowledged(receiver, 20))
        assert _received(receiver) == published
        for endpoint in (await pipeline.api.get("endpoints")).json()["endpoints"]:
            assert (await pipeline.api.delete(f"endpoints/{endpoint['id']}")).status_code == 204
        assert (await pipeline.api.delete("event_types/refund_issued")).status_code == 204

    async with start_pipeline(**place) as pipeline:
        await _publish_refunds(pipeline, "removed")
        letters = (await until(lambda: _letters(pipeline)))["dead_letters"]
        topic = f"{pipeline.settings.topics.prefix}oms.refunds"
        assert {(one["reason"], one["topic"]) for one in letters} == {("unknown_event", topic)}
