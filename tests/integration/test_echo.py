"""A receiver that echoes its requests: no secret of them is in Kafka or ClickHouse."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from pipeline.broker.kafka.config import consumer_config
from tests.integration.conftest import Pipeline, StartPipeline, event_bytes
from tests.waiting import until

pytestmark = pytest.mark.slow  # starts whole pipelines; make test-slow and make test-kafka run it

TOKEN, HEADER = "tok/424242424242+echoed&secret", "value-of-the-custom-header"
BOUND = 16 * 1024


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with the request's head, in headers, in base64, in chunks of 7 bytes; and with a token across the stored size."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
    lowered = {name.lower(): value for name, value in fields.items()}
    await reader.readexactly(int(lowered["content-length"]))
    body = json.dumps({"got": fields, "dump": base64.b64encode(head).decode()}).encode()
    body += b"." * (BOUND - len(body) - 10) + TOKEN.encode() + b"the end"
    writer.write(
        b"HTTP/1.1 500 "
        + TOKEN.encode()
        + b"\r\nX-Echo: "
        + lowered["authorization"].encode()
        + b"\r\nSet-Cookie: k="
        + base64.urlsafe_b64encode(lowered["x-api-key"].encode())
        + b"\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    for start in range(0, len(body), 7):
        piece = body[start : start + 7]
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    writer.write(b"0\r\nX-Trailer: " + TOKEN.encode() + b"\r\n\r\n")
    await writer.drain()
    writer.close()


async def test_echoed_requests_are_stored_without_secrets(start_pipeline: StartPipeline) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, start_pipeline() as pipeline:
        created = await pipeline.register(url, token=TOKEN, headers={"X-Api-Key": HEADER})
        await pipeline.publish(event_bytes("evt-told"))

        found = await until(lambda: _recorded(pipeline, 6))
        tested = await pipeline.api.post(f"endpoints/{created['id']}/test", json={"test": {}})
        details = [(await pipeline.api.get(f"attempts/{one['id']}")).json() for one in found]
        written = await asyncio.to_thread(_attempts_in_kafka, pipeline)

    shown = json.dumps([*details, tested.json()]) + written
    forms = [
        TOKEN,
        HEADER,
        "424242424242",
        "echoed",
        created["secret"][6:],
        base64.b64encode(f": {HEADER}".encode()).decode()[4:-4],
    ]
    assert [form for form in forms if form in shown] == []
    headers = dict(map(tuple, _pairs(details[0]["response_headers"])))
    assert headers["X-Echo"] == "Bearer [redacted]"
    assert details[0]["response_body"].endswith(".[redacted]")
    assert "[redacted]" in details[0]["response_body"].partition("dump")[2].partition("...")[0]


async def _recorded(pipeline: Pipeline, count: int) -> list[dict[str, Any]]:
    found = await pipeline.attempts(event_id_eq="evt-told")
    return found if len(found) >= count else []


def _pairs(headers: Any) -> Any:
    return (
        headers.items()
        if isinstance(headers, dict)
        else [tuple(one.values()) if isinstance(one, dict) else one for one in headers]
    )


def _attempts_in_kafka(pipeline: Pipeline) -> str:
    topic = pipeline.settings.topics.attempts
    consumer = KafkaConsumer(**(consumer_config(pipeline.settings) | {"group_id": None}))
    try:
        partitions = [TopicPartition(topic, number) for number in range(2)]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        read = b""
        while records := consumer.poll(timeout_ms=2000):
            read += b"".join(record.value for of_partition in records.values() for record in of_partition)
    finally:
        consumer.close()
    assert b"evt-told" in read
    return read.decode()
