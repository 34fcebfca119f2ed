"""A newer release added fields: what we rewrite keeps them, so that the newer process finds them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import replace

from pipeline.delivery.delivery import delivery_of as delivery_from
from pipeline.endpoints.registry import Registry, deleted
from schemas.codec import from_json, to_json
from schemas.delivery import DeliveryRecord
from schemas.endpoint import EndpointRecord
from tests.unit.delivery.delivery_case import BODY, answer, delivery_of, endpoint
from tests.unit.delivery.delivery_case import Scene as DeliveryScene
from tests.unit.endpoints.registry_case import EndpointsTopic, registry
from tests.unit.upgrade.golden import as_kind, golden
from tests.unit.web.service import Service

ADDED = json.loads(golden("endpoint.newer"))["of_a_newer_release"]


async def _registry() -> tuple[Registry, EndpointsTopic]:
    made = registry()
    topic = EndpointsTopic(made)
    await topic.send("webhooks.endpoints", key=b"7", value=golden("endpoint.newer"))
    return made, topic


async def test_a_rewritten_endpoint_keeps_what_a_newer_release_added() -> None:
    made, topic = await _registry()
    found = made.get(7)
    assert found is not None

    await made.write(topic, replace(found.record, description="changed", version=5))

    written = json.loads(topic.sent[-1].value or b"")
    first = json.loads(golden("endpoint.newer"))
    assert {member: written[member] for member in first} == first | {"description": "changed", "version": 5}


async def test_an_endpoint_changed_through_the_api_keeps_it_too(service: Service) -> None:
    await service.create()  # it shows that the encryption key is right: the golden record was not encrypted
    record = json.loads(golden("endpoint.newer"))
    position = await service.kafka.send("webhooks.endpoints", key=b"7", value=json.dumps(record).encode())
    await service.kafka.registry.table.wait_for(position.offset)

    async with service.client.patch("/api/webhook/endpoints/7", json={"endpoint": {"description": "changed"}}) as response:
        assert response.status == 200

    written = json.loads(service.kafka.written[-1].value or b"")
    assert written["description"] == "changed"
    assert written["of_a_newer_release"] == ADDED
    assert written["secrets"] == record["secrets"]


def test_a_deleted_endpoint_keeps_it_and_loses_its_secrets() -> None:
    newer = from_json(golden("endpoint.newer"), EndpointRecord)

    last = json.loads(to_json(deleted(newer, changed_by="api", at=datetime(2026, 3, 3, tzinfo=UTC))))

    assert last["of_a_newer_release"] == ADDED
    assert (last["secrets"], last["sealed_token"]) == ([], None)


@pytest.mark.parametrize("is_parked", [False, True], ids=["repeated", "parked"])
async def test_a_rewritten_delivery_keeps_it(is_parked: bool) -> None:
    newer = from_json(golden("delivery.newer"), DeliveryRecord)
    scene = DeliveryScene()
    scene.sender.exchange = answer(503)

    await scene.delivery_service.deliver(
        delivery_from(replace(newer, parked=2), BODY, endpoint(secret=None) if is_parked else endpoint(), None)
    )

    [sent] = scene.delayed()
    again = delivery_of(sent)
    assert again.event == newer.event
    assert again.later == newer.later
    assert again.later is not UNSET
    assert (again.attempt, again.parked) == ((3, 3) if is_parked else (4, 0))


def _decoded(later: dict[str, Raw] | UnsetType) -> dict[str, object]:
    return {name: json.loads(bytes(value)) for name, value in later.items()} if isinstance(later, dict) else {}


async def test_the_retry_passes_on_what_it_does_not_know() -> None:
    from tests.unit.consumers.test_retry import Scene  # noqa: PLC0415 - a test module: imported when it is needed
    from tests.unit.sample_events import endpoint_record  # noqa: PLC0415

    scene = Scene(endpoint_record(7))

    await scene.retry.handle(as_kind("delivery", ".newer", prefix="t."))

    [made] = scene.delivery_service.delivered
    assert _decoded(made.kept) == {"of_a_newer_release": ADDED}
    assert _decoded(made.event.later) == {"of_a_newer_release": ADDED}
