"""An endpoint that must be verified gets nothing until it is; its deliveries are held, and sent then."""

from __future__ import annotations

import json

import pytest

from pipeline.devtools.receiver_checks import ReceiverChecks
from tests.integration.conftest import StartPipeline, event_bytes
from tests.integration.test_held import FAILING, WORKING, until_acknowledged, until_held

pytestmark = pytest.mark.slow


async def test_deliveries_wait_until_the_endpoint_is_verified(start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("erp", FAILING, verification="signed_event")
        [asked] = receiver.deliveries
        assert json.loads(asked.body)["event_name"] == "webhook.verify"
        await pipeline.publish(event_bytes("evt-1"))
        endpoint = await until_held(pipeline, 1)
        assert (endpoint["state"], len(receiver.deliveries)) == ("unverified", 1)

        receiver.behaviour = WORKING
        verified = await pipeline.api.post(f"endpoints/{endpoint['id']}/verify")
        assert verified.json()["state"] == "active"
        await until_acknowledged(receiver, ["evt-1"])
        assert receiver.counts.bad_signature == 0

        wanted = {"endpoint": {"verification": "cloudevents_handshake"}}
        changed = await pipeline.api.patch(f"endpoints/{endpoint['id']}", json=wanted)
        assert "returned 405 for OPTIONS" in changed.json()["verification_problem"]
        await pipeline.publish(event_bytes("evt-2"))
        await until_held(pipeline, 1)
        receiver.checks = ReceiverChecks(allowed_origin="*")
        verified = await pipeline.api.post(f"endpoints/{endpoint['id']}/verify")
        assert verified.json()["state"] == "active"
        await until_acknowledged(receiver, ["evt-2"])
        assert receiver.deliveries[-1].headers["Origin"] == pipeline.settings.webhook_origin
