"""With public clients only: kcat publishes, standardwebhooks verifies, plain HTTP finds the attempt again."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest
import standardwebhooks

from pipeline.devtools.receiver import Receiver
from tests.contract.broker.conftest import CLIENTS
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until


# librdkafka, which kcat uses, cannot read the embedded broker's answer to ApiVersions.
@pytest.mark.apache
@pytest.mark.parametrize("client", CLIENTS)
async def test_an_event_published_with_kcat(start_pipeline: StartPipeline, client: str) -> None:
    kcat = shutil.which("kcat")
    assert kcat, "this test needs kcat: apt-get install kcat"
    async with start_pipeline(kafka_client=client) as pipeline:
        receiver = await pipeline.receiver("public")
        topic, servers = pipeline.settings.topics.orders, pipeline.settings.kafka_bootstrap_servers
        # A header name that is not UTF-8. Without speed-ups, kafka-python cannot read it (see compat.py).
        is_readable = client == "librdkafka" or pipeline.settings.kafka_speedups
        headers = ["-H", "größe=1".encode("latin-1")] if is_readable else []
        process = await asyncio.create_subprocess_exec(
            *(kcat, "-P", "-b", servers, "-t", topic, "-K", "|", *headers),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate(b"R758805215|" + event_bytes("evt-kcat", number="R758805215", note="by kcat-77"))
        assert process.returncode == 0, said.decode()

        await until(lambda: _received(receiver))
        delivery = receiver.deliveries[0]
        standardwebhooks.Webhook(receiver.secret or "").verify(delivery.body, dict(delivery.headers))
        assert json.loads(delivery.body)["id"] == "evt-kcat"

        found = await until(lambda: pipeline.attempts(request_body_cont="KCAT-77"))
        assert [each["event_id"] for each in found] == ["evt-kcat"]


async def _received(receiver: Receiver) -> bool:
    return receiver.counts.acknowledged > 0
