"""A role whose Kafka is down for long, with its own process and its own broker.

It takes some twenty seconds: the process looks for forgotten sockets every ten seconds.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from pipeline.devtools.local_broker import TansuBroker
from pipeline.devtools.local_process import free_port
from pipeline.endpoints.vault import Vault
from tests.faults.processes import COMMAND
from tests.waiting import until

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]


def open_descriptors(process: subprocess.Popen[bytes]) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


@asynccontextmanager
async def fanout(bootstrap_servers: str, directory: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Start ``oms-webhooks fanout``, and wait until it is ready."""
    port = free_port()
    variables = {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "KAFKA_REPLICATION_FACTOR": "1",
        "KAFKA_PARTITIONS": "2",
        "ENCRYPTION_KEY": Vault.new_key(),
        "HTTP_PORT": str(port),
    }
    outside = {name: value for name, value in os.environ.items() if not name.startswith("OMS_WEBHOOKS_")}
    environment = outside | {f"OMS_WEBHOOKS_{name}": value for name, value in variables.items()}
    log = directory / "fanout.log"
    process = start(environment, directory, log)
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            await until(lambda: process.poll() is not None or is_ready(client, port), log.read_text)
            assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.kill()
        process.wait(30)


def start(environment: dict[str, str], directory: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen([COMMAND, "fanout"], cwd=directory, env=environment, stdout=stream, stderr=stream)


async def is_ready(client: httpx.AsyncClient, port: int) -> bool:
    try:
        return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
    except httpx.TransportError:
        return False


async def test_an_unavailable_broker_does_not_use_up_the_file_descriptors(tmp_path: Path) -> None:
    broker = TansuBroker(log_path=tmp_path / "broker.log")
    broker.start()
    async with fanout(broker.bootstrap_servers, tmp_path) as process:
        before = open_descriptors(process)
        broker.stop()
        await until(lambda: open_descriptors(process) >= before + 20, "kafka-python forgot no sockets: is all of this needed?")
        await until(lambda: open_descriptors(process) <= before + 10, "the sockets that kafka-python forgot stay open")
