"""The roles of the product as processes that can be killed: ``oms-webhooks fanout``, ``retry``, ``recorder``, ``api``."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from pipeline.devtools.local_process import free_port
from tests.waiting import until

COMMAND = str(Path(sys.executable).with_name("oms-webhooks"))
ROOT = str(Path(__file__).resolve().parents[2])
START_SECONDS = 180.0
WORK_SECONDS = 120.0
_LOG_LINES = 25


_PASSED_ON = frozenset({"OMS_WEBHOOKS_KAFKA_SPEEDUPS", "OMS_WEBHOOKS_SENDER_SPEEDUPS"})
"""Settings of the test run that every process gets: make test-plain switches off the use of private APIs."""


class RoleProcess:
    """The process of a role. It can be killed and restarted; its address stays the same."""

    def __init__(
        self, role: str, variables: Mapping[str, str], directory: Path, *, name: str = "", command: Sequence[str] = (COMMAND,)
    ) -> None:
        """``name`` distinguishes several processes of a role. ``variables`` are added to our environment.

        The role's name is appended to ``command``.
        """
        self._command = command
        self.role = role
        self.name = name or role
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._variables = {**variables, "OMS_WEBHOOKS_HTTP_PORT": str(port)}
        self._directory = directory
        self._log = directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start; :meth:`until_ready` waits until it works."""
        assert self._process is None, f"{self.name} is already running"
        outside = {
            name: value for name, value in os.environ.items() if not name.startswith("OMS_WEBHOOKS_") or name in _PASSED_ON
        }
        outside["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, outside.get("PYTHONPATH")]))
        with self._log.open("ab") as log:
            # Its directory contains no .env file that would change its settings.
            self._process = subprocess.Popen(
                [*self._command, self.role], cwd=self._directory, env=outside | self._variables, stdout=log, stderr=log
            )

    async def until_ready(self) -> None:
        """Wait until ``/readyz`` reports ready."""
        last = "no answer"
        async with httpx.AsyncClient(trust_env=False) as client:

            async def is_ready() -> bool:
                nonlocal last
                self.check_alive()
                try:
                    response = await client.get(f"{self.url}/readyz")
                except httpx.TransportError as error:
                    last = repr(error)
                    return False
                last = response.text
                return response.status_code == 200

            await until(is_ready, lambda: f"{self.name} is not ready: {last}\n{self.log_end()}", seconds=START_SECONDS)

    async def metric(self, name: str, **labels: str) -> float | None:
        """Return the sum of a metric over its samples with these labels; None while the process does not serve metrics."""
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
                text = (await client.get(f"{self.url}/metrics")).text
        except httpx.TransportError:
            return None
        families = text_string_to_metric_families(text)
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    async def holds(self, group: str) -> frozenset[tuple[str, int]]:
        """Return the partitions of the group that it holds, from its lag metric; None while it does not answer."""
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
                text = (await client.get(f"{self.url}/metrics")).text
        except httpx.TransportError:
            return frozenset()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        labels = [sample.labels for sample in samples if sample.name == "oms_webhooks_consumer_lag_records"]
        return frozenset((each["topic"], int(each["partition"])) for each in labels if each["group"] == group)

    async def until_above(self, name: str, bound: float, **labels: str) -> float:
        """Wait until a metric (the sum of its samples with these labels) is above a bound, and return it."""
        value = 0.0

        async def is_above() -> bool:
            nonlocal value
            value = await self.metric(name, **labels) or 0.0
            if value <= bound:
                self.check_alive()
            return value > bound

        await until(is_above, lambda: f"{self.name}: {name} is {value}\n{self.log_end()}", seconds=WORK_SECONDS)
        return value

    async def until_above_zero(self, name: str) -> float:
        """Wait until a metric is above 0, and return it."""
        return await self.until_above(name, 0.0)

    async def until_unready(self, because: str) -> None:
        """Wait until ``/readyz`` names this problem."""
        last = ""
        async with httpx.AsyncClient(trust_env=False) as client:

            async def is_unready() -> bool:
                nonlocal last
                self.check_alive()
                answer = await client.get(f"{self.url}/readyz")
                last = answer.text
                return answer.status_code != 200 and because in last

            await until(is_unready, lambda: f"{self.name} does not say {because!r} but {last}", seconds=WORK_SECONDS)

    async def until_busy(self) -> float:
        """Wait until the role has records in progress, and return how many."""
        return await self.until_above_zero("oms_webhooks_outstanding_records")

    def kill(self) -> None:
        """``kill -9`` it: no handler runs, nothing is flushed. Returns when the process is gone."""
        self.check_alive()
        process = self._take()
        process.kill()
        process.wait(30)
        assert process.returncode == -signal.SIGKILL, f"{self.name} ended on its own ({process.returncode})\n{self.log_end()}"

    def freeze(self) -> None:
        """Send SIGSTOP: it stops without noticing."""
        self.check_alive()
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT: it continues as if nothing had happened."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def terminate(self, grace_seconds: float) -> float:
        """``kill -15`` it; returns the seconds until it ended, in order and in time."""
        self.check_alive()
        process = self._take()
        asked_at = time.monotonic()
        process.terminate()
        try:
            code = await asyncio.to_thread(process.wait, grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
            raise AssertionError(f"{self.name} had not ended {grace_seconds} s after SIGTERM\n{self.log_end()}") from None
        assert code == 0, f"{self.name} ended with exit code {code} after SIGTERM\n{self.log_end()}"
        return time.monotonic() - asked_at

    def check_alive(self) -> None:
        """Fail with the end of its log if the process ended on its own."""
        assert self._process is not None, f"{self.name} is not running"
        code = self._process.poll()
        assert code is None, f"{self.name} ended on its own with exit code {code}\n{self.log_end()}"

    def clean_up(self) -> None:
        """End the process if it still runs."""
        if self._process is not None:
            process = self._take()
            process.kill()
            process.wait(30)

    def log_end(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:] if self._log.exists() else []
        return "\n".join([f"The end of {self._log}:", *lines])

    def _take(self) -> subprocess.Popen[bytes]:
        process, self._process = self._process, None
        assert process is not None, f"{self.name} is not running"
        return process
