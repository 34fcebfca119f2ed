"""Several processes of one role on one host: ``oms-webhooks fanout --workers 4``.

A process uses one core. The supervisor starts N processes, each with the arguments of a single process, and waits. It restarts none of
them: systemd or Kubernetes does that better, and makes restarts visible.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from typing import Final

from pipeline.ops.logs import logger

log = logger(__name__)

GRACE_SECONDS: Final = 30.0
"""Time after the drain of a worker, for the last commit, the producer and requests in progress."""


def worker_name(role: str, index: int) -> str:
    """The name of a worker in its logs: ``fanout-0``."""
    return f"{role}-{index}"


def worker_environment(environment: Mapping[str, str], http_port: int, index: int) -> dict[str, str]:
    """Worker 0 listens on the port in the settings, each next worker one port higher. 0: any free port for each."""
    port = http_port + index if http_port else 0
    return {**environment, "OMS_WEBHOOKS_HTTP_PORT": str(port)}


def exit_code(returncode: int) -> int:
    """The exit code as a shell reports it: 128 plus the signal's number if a signal ended the process."""
    return 128 - returncode if returncode < 0 else returncode


class Supervisor:
    """Runs the workers of a role until one of them exits or a stop is requested."""

    def __init__(self, role: str, workers: int, *, http_port: int, drain_seconds: float) -> None:
        self._role = role
        self._count = workers
        self._http_port = http_port
        self._patience = drain_seconds + GRACE_SECONDS
        self._running: dict[asyncio.Task[int], asyncio.subprocess.Process] = {}
        self._names: dict[asyncio.Task[int], str] = {}

    async def run(self) -> int:
        """Run the workers. Returns 0 if a stop was requested and all exited cleanly, otherwise the first worker's exit code."""
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
            log.error("a worker has exited; stopping the others", worker=self._names[first], exit_code=exit_code(first.result()))
        codes = await self._end_all()
        if first is None:
            return next((code for code in codes if code), 0)
        return exit_code(first.result()) or 1  # an exit that was not requested is a failure, whatever its code

    async def _start(self, index: int) -> None:
        name = worker_name(self._role, index)
        # Its standard input is a pipe from this process. When this process ends, for any reason, the pipe closes and the worker drains.
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
        """Ask all workers to drain, wait, and kill those that do not exit in time. Returns their exit codes."""
        for task, process in self._running.items():
            if not task.done():
                with contextlib.suppress(ProcessLookupError):  # it has just exited by itself, for example after Ctrl-C
                    process.terminate()
        _, left = await asyncio.wait(self._running, timeout=self._patience)
        for task in left:
            log.error("a worker did not exit in time and is killed", worker=self._names[task], seconds=self._patience)
            with contextlib.suppress(ProcessLookupError):
                self._running[task].kill()
        return [exit_code(code) for code in await asyncio.gather(*self._running)]
