"""No usable answer is a failure, like a refusal: six attempts in all. ``test_path.py`` covers the statuses."""

from __future__ import annotations

import ssl
from collections import Counter

import pytest
import trustme

from schemas.topics import parse_delay
from tests.integration.answers import DELAYS, Endpoint, every_endpoint_gets, listening, recorded, reset, silence, truncated
from tests.integration.conftest import StartPipeline, event_bytes
from tests.waiting import until


@pytest.mark.slow  # starts a whole pipeline; test_path covers the last two, tests/unit/core/test_outcome.py the rule
async def test_no_usable_answer_is_a_failure(start_pipeline: StartPipeline) -> None:
    endpoints = {"timeout": Endpoint(silence), "connection_reset": Endpoint(reset), "truncated_response": Endpoint(truncated)}
    async with start_pipeline(request_timeout_seconds=1.5, connect_timeout_seconds=1.4) as pipeline:
        await every_endpoint_gets(pipeline, endpoints, dict.fromkeys(endpoints, 6))


@pytest.mark.slow  # starts a whole pipeline; tests/contract/test_sender_failures.py covers the names of these failures
async def test_tls_and_dns_failures_and_refused_connections_are_retried(start_pipeline: StartPipeline) -> None:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(tls)
    async with (
        start_pipeline(retry_delays=tuple(map(parse_delay, DELAYS))) as pipeline,
        listening(Endpoint(reset), tls) as tls_url,
    ):
        targets = {"tls": tls_url, "dns": "http://no-such-host.invalid/", "connection_refused": "http://127.0.0.1:1/"}
        ids = {(await pipeline.register(url))["id"]: failure for failure, url in targets.items()}
        await pipeline.publish(event_bytes("evt-net"))
        found = await until(lambda: recorded(pipeline, "evt-net", 18))
        assert Counter((ids[each["endpoint_id"]], each["failure"]) for each in found) == {
            (failure, failure): 6 for failure in targets
        }
        assert all(each["error"] for each in found)
        assert Counter(each["outcome"] for each in found) == {"repeated": 15, "exhausted": 3}
