"""Debian's Prometheus, watching a deployment with the shipped rules, sped up."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from pipeline.devtools.local_process import free_port
from tests.deploy.files import RULES, promtool
from tests.waiting import until

RUNBOOKS = "https://git.example/oms-webhooks/"
# A minute of the shipped windows is a second here; the shortest still covers some scrapes.
_WINDOW = re.compile(r"\[(\d+)([mhd])\]")
_SECONDS = {"m": 1, "h": 60, "d": 1440}


def shortened(rules: str) -> str:
    """Return the rules with windows a sixtieth as long, without ``for``, and evaluated every second."""
    rules = re.sub(r"\bfor: \w+", "for: 0s", rules)
    rules = re.sub(r"\binterval: \w+", "interval: 1s", rules)
    return _WINDOW.sub(lambda window: f"[{max(10, int(window[1]) * _SECONDS[window[2]])}s]", rules)


class Prometheus:
    """A running Prometheus, and its answers."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self._url = url
        self._process = process
        self._log = log

    async def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that fire."""
        found = (await self._get("/api/v1/alerts"))["data"]["alerts"]
        return [alert for alert in found if alert["state"] == "firing"]

    async def until_firing(self, alert: str) -> dict[str, Any]:
        """Wait until an alert fires, and return it."""
        names: list[str] = []

        async def found() -> list[dict[str, Any]]:
            firing = await self.alerts()
            names[:] = sorted(each["labels"]["alertname"] for each in firing)
            return [each for each in firing if each["labels"]["alertname"] == alert]

        fires: list[dict[str, Any]] = await until(
            found, lambda: f"{alert} does not fire, but {names}\n{self._log.read_text()[-2000:]}"
        )
        return fires[0]

    async def until_silent(self, *alerts: str) -> None:
        """Wait until none of the alerts fires."""
        firing: set[str] = set()

        async def are_silent() -> bool:
            firing.clear()
            firing.update({each["labels"]["alertname"] for each in await self.alerts()} & set(alerts))
            return not firing

        await until(are_silent, lambda: f"{firing} still fire")

    async def value(self, expression: str) -> float | None:
        """Return the current value of an expression that has one value."""
        result = (await self._get("/api/v1/query", query=expression))["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    async def until(self, expression: str, wanted: float) -> None:
        """Wait until an expression has a value."""
        value: float | None = None

        async def is_wanted() -> bool:
            nonlocal value
            value = await self.value(expression)
            return value == wanted

        await until(is_wanted, lambda: f"{expression} is {value}, not {wanted}")

    async def _get(self, path: str, **params: str) -> dict[str, Any]:
        assert self._process.poll() is None, f"Prometheus ended: {self._log.read_text()[-2000:]}"
        async with httpx.AsyncClient(base_url=self._url, trust_env=False, timeout=10) as client:
            response = await client.get(path, params=params)
        answer: dict[str, Any] = response.json()
        assert answer["status"] == "success", answer
        return answer


@asynccontextmanager
async def watching(directory: Path, roles: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """Scrape roles (name to URL) every second until the block ends."""
    port = free_port()
    log = directory / "prometheus.log"
    process = await asyncio.to_thread(_start, directory, log, roles, port)
    try:
        await _until_it_answers(f"http://127.0.0.1:{port}/-/ready", process)
        yield Prometheus(f"http://127.0.0.1:{port}", process, log)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)


def _start(directory: Path, log: Path, roles: Mapping[str, str], port: int) -> subprocess.Popen[bytes]:
    program = shutil.which("prometheus")
    assert program is not None, "Prometheus is not installed: apt-get install prometheus"
    directory.mkdir()
    (directory / "rules.yml").write_text(shortened(RULES.read_text()))
    checked = promtool("check", "rules", directory / "rules.yml")
    assert checked.returncode == 0, checked.stderr
    targets = [{"targets": [url.removeprefix("http://")], "labels": {"namespace": "shop"}} for url in roles.values()]
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s", "external_labels": {"runbooks": RUNBOOKS}},
        "rule_files": ["rules.yml"],
        "scrape_configs": [{"job_name": "oms-webhooks", "static_configs": targets}],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [program, f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
    with log.open("wb") as output:
        return subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=output, stderr=output)


async def _until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:

        async def answers() -> bool:
            assert process.poll() is None, "Prometheus did not start; prometheus.log says why"
            try:
                return (await client.get(url)).status_code == 200
            except httpx.TransportError:
                return False

        await until(answers, "Prometheus is not ready")
