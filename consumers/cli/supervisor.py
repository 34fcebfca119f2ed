"""Several processes of one role on one host: ``oms-webhooks fanout --workers 4``.

A process uses one core. The supervisor starts N of them, each with the arguments of a single one, waits, and does little else: it
restarts nothing, because whoever watches it (systemd, Kubernetes) does that better and sees it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from typing import Final

from pipeline.ops.logs import logger

log = logger(__name__)

GRACE_SECONDS: Final = 30.0
"""What may follow the drain of a worker: the last commit, the producer, requests under way."""


def worker_name(role: str, index: int) -> str:
    """``fanout-0``: in its logs."""
    return f"{role}-{index}"


def worker_environment(environment: Mapping[str, str], http_port: int, index: int) -> dict[str, str]:
    """Worker 0 listens on the port of the settings, the next one on the port above it; 0 is any port for each."""
    port = http_port + index if http_port else 0
    return {**environment, "OMS_WEBHOOKS_HTTP_PORT": str(port)}


def exit_code(returncode: int) -> int:
    """As a shell says it: 128 and the signal's number for what a signal ended."""
    return 128 - returncode if returncode < 0 else returncode


class Supervisor:
    """Runs the workers of a role until one of them ends or somebody asks it to stop."""

    def __init__(self, role: str, workers: int, *, http_port: int, drain_seconds: float) -> None:
        self._role = role
        self._count = workers
        self._http_port = http_port
        self._patience = drain_seconds + GRACE_SECONDS
        self._running: dict[asyncio.Task[int], asyncio.subprocess.Process] = {}
        self._names: dict[asyncio.Task[int], str] = {}

    async def run(self) -> int:
        """Run them; returns the exit code: 0 when all ended in good order because they were asked to, else that of the first."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        for index in range(self._count):
            await self._start(index)
        log.info("started workers", role=self._role, workers=self._count)
        stopping = asyncio.create_task(stop.wait())
        ended, _ = await asyncio.wait([stopping, *self._running], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        first = next((task for task in self._running if task in ended), None)
        if first is not None:
            log.error("a worker has ended; ending the others", worker=self._names[first], exit_code=exit_code(first.result()))
        codes = await self._end_all()
        if first is None:
            return next((code for code in codes if code), 0)
        return exit_code(first.result()) or 1  # one that ends unasked is a failure, however it calls it

    async def _start(self, index: int) -> None:
        name = worker_name(self._role, index)
        # Its standard input is a pipe from here: it ends when this process does, however that is, and the worker drains then.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "consumers",
            self._role,
            "--worker",
            name,
            stdin=asyncio.subprocess.PIPE,
            env=worker_environment(os.environ, self._http_port, index),
        )
        task = asyncio.create_task(process.wait(), name=name)
        self._running[task], self._names[task] = process, name

    async def _end_all(self) -> list[int]:
        """Ask all to drain, wait, and kill what does not end in time; their exit codes."""
        for task, process in self._running.items():
            if not task.done():
                process.terminate()
        _, left = await asyncio.wait(self._running, timeout=self._patience)
        for task in left:
            log.error("a worker did not end in time and is killed", worker=self._names[task], seconds=self._patience)
            self._running[task].kill()
        return [exit_code(code) for code in await asyncio.gather(*self._running)]
