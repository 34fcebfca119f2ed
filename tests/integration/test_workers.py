"""``--workers``: real processes that share the work, end together, and do not outlive their supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from pipeline.devtools.local_process import free_port
from pipeline.endpoints.vault import Vault
from tests.faults.processes import COMMAND
from tests.waiting import until

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]
WORKERS = 2


@dataclass
class Supervised:
    """A supervisor and the workers below it."""

    process: subprocess.Popen[bytes]
    ports: list[int]
    log: Path

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    async def until_ended(self, pids: list[int]) -> None:
        """Wait until all of these processes are gone."""
        await until(lambda: not any(map(is_running, pids)), self.log.read_text)

    async def ended(self) -> int:
        """Wait for the end, and return the exit code."""
        return await asyncio.to_thread(self.process.wait, 60)


def is_running(pid: int) -> bool:
    """Return whether a process runs: one that has ended, but was not waited for, has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


def start(variables: dict[str, str], directory: Path, log: Path) -> subprocess.Popen[bytes]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("OMS_WEBHOOKS_")}
    environment = outside | {f"OMS_WEBHOOKS_{name}": value for name, value in variables.items()}
    with log.open("wb") as stream:
        command = [COMMAND, "fanout", "--workers", str(WORKERS)]
        return subprocess.Popen(command, cwd=directory, env=environment, stdout=stream, stderr=stream)


@asynccontextmanager
async def supervised(bootstrap_servers: str, topic_prefix: str, directory: Path) -> AsyncIterator[Supervised]:
    """Start ``oms-webhooks fanout --workers 2``, and wait until it is ready."""
    first = free_port()
    variables = {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "KAFKA_TOPIC_PREFIX": topic_prefix,
        "KAFKA_PARTITIONS": "2",
        "KAFKA_REPLICATION_FACTOR": "1",
        "KAFKA_SESSION_TIMEOUT_MS": "6000",
        "KAFKA_FETCH_MAX_WAIT_MS": "30",
        "ENCRYPTION_KEY": Vault.new_key(),
        "HTTP_PORT": str(first),
    }
    log = directory / "workers.log"
    process = start(variables, directory, log)
    one = Supervised(process, [first, first + 1], log)
    try:
        await until_ready(one)
        yield one
    finally:
        process.kill()  # its workers see end of input
        process.wait(30)


async def until_ready(one: Supervised) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:

        async def are_ready() -> bool:
            assert one.process.poll() is None, one.log.read_text()
            try:
                answers = [await client.get(f"http://127.0.0.1:{port}/readyz") for port in one.ports]
            except httpx.TransportError:
                return False
            return all(answer.status_code == 200 for answer in answers)

        await until(are_ready, one.log.read_text)


async def test_workers_have_ports_and_names_and_end_in_order(bootstrap_servers: str, topic_prefix: str, tmp_path: Path) -> None:
    async with supervised(bootstrap_servers, topic_prefix, tmp_path) as one:
        workers = one.workers()
        assert len(workers) == WORKERS
        one.process.send_signal(signal.SIGTERM)
        assert await one.ended() == 0
        await one.until_ended(workers)
    said = one.log.read_text()
    for name in ("fanout-0", "fanout-1"):
        assert f"{name}: health and metrics at" in said
        assert f'"worker": "{name}"' in said


async def test_a_worker_that_dies_ends_all_with_its_exit_code(bootstrap_servers: str, topic_prefix: str, tmp_path: Path) -> None:
    async with supervised(bootstrap_servers, topic_prefix, tmp_path) as one:
        first, second = one.workers()
        os.kill(first, signal.SIGKILL)
        assert await one.ended() == 128 + signal.SIGKILL
        await one.until_ended([second])
    said = one.log.read_text()
    assert "a worker has exited; stopping the others" in said
    assert '"event": "stopping"' in said, "the other one was drained, not killed"


async def test_workers_do_not_outlive_their_supervisor(bootstrap_servers: str, topic_prefix: str, tmp_path: Path) -> None:
    async with supervised(bootstrap_servers, topic_prefix, tmp_path) as one:
        workers = one.workers()
        one.process.kill()
        await one.ended()
        await one.until_ended(workers)
    assert one.log.read_text().count('"event": "stopping"') == WORKERS
