"""Test events, resends, keys and the audit log on the whole pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from consumers.run import Role
from pipeline.devtools.receiver import Behaviour, Receiver
from pipeline.endpoints.vault import Vault
from pipeline.store.connection import Connections
from pipeline.store.errors import StoreError
from schemas.event import EventType
from tests.integration.conftest import Pipeline, StartPipeline, event_bytes
from tests.waiting import until


async def _acknowledged(receiver: Receiver, count: int) -> bool:
    return receiver.counts.acknowledged >= count


@pytest.mark.slow  # starts everything twice; test_path covers the delay topic
async def test_a_resend_outlives_the_process_that_accepted_it(start_pipeline: StartPipeline, tmp_path: Path) -> None:
    kept = {"encryption_key": SecretStr(Vault.new_key()), "clickhouse_path": tmp_path / "clickhouse"}
    receiver = Receiver("outlived")
    url = await receiver.start()
    async with start_pipeline([Role.FANOUT, Role.RECORDER, Role.API], **kept) as pipeline:
        receiver.secret = (await pipeline.register(f"{url}outlived"))["secret"]
        await pipeline.publish(event_bytes("evt-2", number="R2"))
        [attempt] = await until(lambda: pipeline.attempts(order_number_eq="R2"))
        await until(lambda: _body(pipeline, attempt["id"]))
        assert (await pipeline.api.post(f"attempts/{attempt['id']}/resend")).status_code == 202
    assert receiver.counts.received == 1
    async with start_pipeline([Role.RETRY], **kept):
        await until(lambda: _acknowledged(receiver, 2))
    assert [one.webhook_id for one in receiver.deliveries] == ["evt-2", "evt-2"]
    await receiver.stop()


@pytest.mark.slow  # starts a whole pipeline; tests/unit/web/api/test_send_test_event.py covers the answers
async def test_a_test_event_is_sent_at_once_and_recorded_as_one(start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("tested", events=[EventType.ORDER_COMPLETED])
        [endpoint] = (await pipeline.api.get("endpoints")).json()["endpoints"]
        path = f"endpoints/{endpoint['id']}"

        answer = await pipeline.api.post(f"{path}/test", json={"test": {"event_name": "stock_item_out_of_stock"}})
        attempt = answer.json()["attempt"]
        assert (answer.status_code, attempt["state"], receiver.counts.acknowledged) == (200, "succeeded", 1)
        detail = await until(lambda: _body(pipeline, attempt["id"]))
        assert detail["request_body"].encode() == receiver.deliveries[0].body
        assert (detail["trigger"], detail["event_name"]) == ("test", "stock_item_out_of_stock")

        receiver.behaviour = Behaviour(fail_first=9, status=500)
        failed = (await pipeline.api.post(f"{path}/test")).json()["attempt"]
        assert (failed["outcome"], failed["http_status_code"]) == ("exhausted", 500)
        assert (await pipeline.api.get(f"{path}/stats")).json()["attempts"] == 0

        blocked = await pipeline.register("http://127.0.0.1:9/closed")
        refused = (await pipeline.api.post(f"endpoints/{blocked['id']}/test")).json()["attempt"]
        assert refused["failure"] == "connection_refused"
        assert len(await until(lambda: _found(pipeline, 3, trigger_eq="test"))) == 3
    connections = Connections(pipeline.settings)
    query = "SELECT action, count() FROM audit_log GROUP BY 1 ORDER BY 1"
    rows: list[Any] = list(await connections.read(lambda client: client.query(query).result_rows))
    counted = dict(rows)
    await connections.close()
    assert counted["test"] == 3
    assert counted["view_body"] >= 1


@pytest.mark.slow  # starts a whole pipeline; make test-slow and make test-kafka run it
async def test_a_private_address_gets_no_test_event(start_pipeline: StartPipeline) -> None:
    kept: dict[str, Any] = {"encryption_key": SecretStr(Vault.new_key())}
    async with start_pipeline([Role.API], **kept) as pipeline:
        endpoint = await pipeline.register("http://127.0.0.1:9/hooks")
    # The network was allowed at registration, and no longer is.
    async with start_pipeline([Role.API], allowed_networks=(), **kept) as pipeline:
        answer = await pipeline.api.post(f"endpoints/{endpoint['id']}/test")
        attempt = answer.json()["attempt"]
    assert (answer.status_code, attempt["state"], attempt["failure"]) == (200, "failed", "blocked_address")


@pytest.mark.slow  # starts a whole pipeline; make test-slow and make test-kafka run it
async def test_the_first_start_creates_a_key_once(start_pipeline: StartPipeline) -> None:
    kept: dict[str, Any] = {"encryption_key": SecretStr(Vault.new_key()), "api_keys": ()}
    async with start_pipeline([Role.API], **kept) as pipeline:
        key = pipeline.running.first_key
        assert key is not None
        assert key not in repr(pipeline.running)
        made = (await _as(pipeline, key).post("keys", json={"key": {"name": "Ada", "role": "viewer"}})).json()
    async with start_pipeline([Role.API], **kept) as pipeline:
        assert pipeline.running.first_key is None
        assert (await _as(pipeline, key).delete(f"keys/{made['id']}")).status_code == 204
        assert (await _as(pipeline, made["key"]).get("endpoints")).status_code == 401
        assert (await _as(pipeline, key).get("endpoints")).status_code == 200


@pytest.mark.slow  # starts a whole pipeline; make test-slow and make test-kafka run it
async def test_a_failed_first_start_creates_no_unseen_key(start_pipeline: StartPipeline, tmp_path: Path) -> None:
    kept: dict[str, Any] = {"encryption_key": SecretStr(Vault.new_key()), "api_keys": ()}
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        async with start_pipeline([Role.API], clickhouse_path=tmp_path / "file", **kept):
            raise AssertionError("it cannot start without a place for its tables")
    async with start_pipeline([Role.API], **kept) as pipeline:
        assert pipeline.running.first_key is not None


def _as(pipeline: Pipeline, key: str) -> httpx.AsyncClient:
    pipeline.api.headers["Authorization"] = f"Bearer {key}"
    return pipeline.api


async def _body(pipeline: Pipeline, attempt_id: int) -> dict[str, Any]:
    response = await pipeline.api.get(f"attempts/{attempt_id}")
    detail: dict[str, Any] = response.json()
    return detail if response.status_code == 200 and detail["request_body"] is not None else {}


async def _found(pipeline: Pipeline, count: int, **filters: object) -> list[dict[str, Any]]:
    found = await pipeline.attempts(**filters)
    return found if len(found) >= count else []
