"""CPU seconds per delivery of the fan-out process, compared with a bare aiohttp client that posts the same bytes in the same run.

    python tests/bench/path.py --events 20000

Real Apache Kafka (Java 17 and Maven), one endpoint, a receiver in its own process that answers 204. CPU time is compared, not wall
time. Even so, on a virtual machine both sides vary by a fifth from moment to moment. So there are several rounds, each with a client
before it and one after it; the median counts. Figures go to standard output; nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import uvloop
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from consumers.run import Role, running
from pipeline.broker.factory import open_broker
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.broker.producer import Producer
from pipeline.core.signing import SigningKey, new_secret, sign
from pipeline.devtools.local_broker import ApacheKafkaBroker
from pipeline.endpoints.vault import Vault
from pipeline.ops.logs import configure_logs
from pipeline.ops.settings import Settings
from schemas.codec import to_json
from schemas.endpoint import EndpointRecord, SealedSecret
from schemas.event_codec import decode_event, webhook_body
from tests.waiting import wait_until

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class _Receiver(asyncio.Protocol):
    """Reads requests with a Content-Length and answers 204: the cheapest possible receiver."""

    def __init__(self, counter: Synchronized[int]) -> None:
        self._counter = counter
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.index(b"content-length:") + 15
            length = int(head[at:].split(b"\r\n", 1)[0])
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._counter.value += 1
            self._transport.write(ANSWER)


def _receive(pipe: Connection, counter: Synchronized[int]) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Receiver(counter), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


@contextmanager
def receiver() -> Iterator[tuple[str, Synchronized[int]]]:
    """Run a receiver in its own process: yields its URL and its request count."""
    ours, theirs = multiprocessing.Pipe()
    counter: Synchronized[int] = multiprocessing.Value("q", 0, lock=False)
    process = multiprocessing.Process(target=_receive, args=(theirs, counter), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/hook", counter
    finally:
        process.terminate()


def event(number: int, size: int) -> bytes:
    """Return an event of about ``size`` bytes."""
    data = {"number": f"R{number:09}", "email": "ada@example.com", "line_items": [{"variant": {"sku": "SPRUCE-01"}}], "note": ""}
    envelope = {
        "id": f"evt_{number:026}",
        "event_name": "order_completed",
        "occurred_at": "2026-03-02T15:04:00.512Z",
        "data": data,
    }
    data["note"] = "x" * max(0, size - len(json.dumps(envelope)))
    return json.dumps(envelope).encode()


def cpu_seconds() -> float:
    """Return this process's CPU time so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def bare_client(url: str, requests: int, size: int, concurrency: int) -> float:
    """Return CPU seconds per POST of the same bytes with the same headers, by aiohttp alone."""
    body = webhook_body(decode_event(event(1, size), max_bytes=10**7))
    key = SigningKey(new_secret())
    headers = {
        "content-type": "application/json",
        "webhook-id": "evt_1",
        "webhook-timestamp": "1",
        "webhook-signature": sign([key], "evt_1", 1, body),
    }
    left = requests

    async def post(session: aiohttp.ClientSession) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            async with session.post(url, data=body, headers=headers) as response:
                await response.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
        await asyncio.gather(*(post(session) for _ in range(concurrency)))  # connections and caches are warm
        left = requests
        started = cpu_seconds()
        await asyncio.gather(*(post(session) for _ in range(concurrency)))
        return (cpu_seconds() - started) / requests


async def prepare(settings: Settings, url: str, events: int, size: int) -> None:
    """Create the topics, register the endpoint, and write the events."""
    with KafkaTopicAdmin(settings) as admin:
        admin.create_missing(settings.topics.specs())
    producer = Producer(open_broker(settings), [spec.name for spec in settings.topics.specs()])
    await producer.start()
    assert settings.encryption_key is not None
    vault = Vault(settings.encryption_key.get_secret_value())
    now = decode_event(event(1, size), max_bytes=10**7).meta.created_at
    endpoint = EndpointRecord(
        id=1,
        target_url=url,
        events=("order_completed",),
        secrets=(SealedSecret(sealed=vault.seal(new_secret())),),
        created_at=now,
        updated_at=now,
    )
    await producer.send(settings.topics.endpoints, key=b"1", value=to_json(endpoint))
    for first in range(0, events, 2000):
        numbers = range(first, min(first + 2000, events))
        await asyncio.gather(
            *(producer.send(settings.topics.orders, key=f"R{n:09}".encode(), value=event(n, size)) for n in numbers)
        )
    await producer.close()


async def fan_out() -> None:
    """Run the fan-out role until it is told to end; it prints its CPU seconds at the given counts of finished events."""
    settings = Settings()
    configure_logs(settings.log_level, settings.log_format)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with running(settings, [Role.FANOUT]) as pipeline:
        sys.stdout.write(json.dumps({"url": pipeline.url}) + "\n")
        sys.stdout.flush()
        await stop.wait()


def process_cpu(pid: int) -> float:
    """Return another process's CPU seconds so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def delivered(url: str) -> float:
    """Return how many attempts the fan-out has made, from its metrics."""
    with urllib.request.urlopen(url.rstrip("/") + "/metrics") as answer:  # loopback
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("oms_webhooks_attempts_total"))


def measure(settings: Settings, url: str, counter: Synchronized[int], events: int, warm_up: int) -> tuple[float, float]:
    """Measure CPU seconds per delivery, and deliveries a second, of a fan-out in its own process, after a warm-up."""
    environment = os.environ | {
        f"OMS_WEBHOOKS_{name.upper()}": _text(getattr(settings, name)) for name in settings.model_fields_set
    }
    command = [sys.executable, __file__, "--fan-out"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            ops = json.loads(process.stdout.readline())["url"]
            wait_until(lambda: counter.value >= warm_up)
            first, cpu, started = counter.value, process_cpu(process.pid), time.monotonic()
            wait_until(lambda: counter.value >= events)
            wall = time.monotonic() - started
            # What follows from deliveries (attempts, commits) is part of their cost.
            wait_until(lambda: delivered(ops) >= events)
            used = process_cpu(process.pid) - cpu
        finally:
            process.send_signal(signal.SIGTERM)
    return used / (events - first), (events - first) / wall


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


class Round(NamedTuple):
    """CPU seconds per delivery, of the fan-out, and of the bare client before and after it."""

    fan_out: float
    before: float
    after: float
    per_second: float

    @property
    def ratio(self) -> float:
        return self.fan_out / ((self.before + self.after) / 2)


def play(servers: str, url: str, counter: Synchronized[int], arguments: argparse.Namespace) -> Round:
    """Do one round, on its own topics."""
    settings = Settings(
        kafka_bootstrap_servers=servers,
        kafka_topic_prefix=f"bench-{secrets.token_hex(3)}.",
        kafka_partitions=6,
        kafka_replication_factor=1,
        kafka_session_timeout_ms=10_000,
        encryption_key=SecretStr(Vault.new_key()),
        allowed_networks=(ip_network("127.0.0.0/8"),),
        max_in_flight_per_endpoint=arguments.concurrency,
        http_port=0,
        log_level="warning",
    )
    requests = arguments.events // 2
    uvloop.run(prepare(settings, url, arguments.events, arguments.bytes))
    before = uvloop.run(bare_client(url, requests, arguments.bytes, arguments.concurrency))
    counter.value = 0
    fan_out_cost, per_second = measure(settings, url, counter, arguments.events, arguments.events // 10)
    after = uvloop.run(bare_client(url, requests, arguments.bytes, arguments.concurrency))
    return Round(fan_out_cost, before, after, per_second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=2_000, help="size of an event")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fan-out", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fan_out:
        uvloop.run(fan_out())
        return
    table = Table("round", "fan-out", "bare client: before", "after", "ratio", "deliveries a second", title="CPU µs a delivery")
    ratios = []
    with tempfile.TemporaryDirectory() as directory, receiver() as (url, counter):
        broker = ApacheKafkaBroker(data_dir=Path(directory))
        try:
            servers = broker.start()
            for number in range(1, arguments.rounds + 1):
                one = play(servers, url, counter, arguments)
                ratios.append(one.ratio)
                bare = (f"{seconds * 1e6:.0f}" for seconds in (one.before, one.after))
                table.add_row(str(number), f"{one.fan_out * 1e6:.0f}", *bare, f"{one.ratio:.2f}", f"{one.per_second:.0f}")
        finally:
            broker.stop()
    console = Console()
    console.print(table)
    console.print(
        f"{arguments.events:,} events of {arguments.bytes:,} bytes, fan-out 1. "
        f"Ratio: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}."
    )


if __name__ == "__main__":
    main()
