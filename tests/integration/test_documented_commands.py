"""The commands of the documentation, as written, run against the demo, which is started like `make demo`.

Each page is run from its start, block by block, in one directory. Placeholders for the reader's values are replaced: the address,
a key, an id. It takes a minute: each command is a process, and most of its time is spent loading Python code.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trustme

from pipeline.devtools.local_process import free_port
from tests.documented_commands import OF_A_DEPLOYMENT, command_blocks, pages
from tests.faults.processes import COMMAND, ROOT, START_SECONDS
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NOT_RUN: Final = {
    "make ": "It would install into the environment of these tests. The fixture runs the demo without it.",
    "uvx --from": "It downloads what the environment of these tests has.",
    "OMS_WEBHOOKS_ALLOWED_NETWORKS=127.0.0.0/8 oms-webhooks all": "A second pipeline, until it is stopped; the demo is one.",
    "export OMS_WEBHOOKS_KAFKA_BOOTSTRAP_SERVERS=kafka-1": "Servers of the reader.",
    "export API=": "The address and the key of the reader. The test sets the variables.",
    "oms-webhooks receiver --port 9009 --basic": "Four programs at one port, each until it is stopped.",
    "OMS_WEBHOOKS_EGRESS_PROXY=": "Settings, not a command.",
    "OMS_WEBHOOKS_PRODUCER_FORMS=": "A setting, not a command.",
    "oms-webhooks topics --accept-recreated TOPIC": "`test_recreated_topics.py` runs it: it needs a topic that was recreated.",
    "bin/rails runner": "A program of the reader's shop.",
    "printf": "It needs kcat, and brokers of the reader.",
    "python tests/bench/search.py": "It takes an hour.",
    "FAULTS_FORM=short": "It runs a test that is run anyway.",
}
"""The start of a block, and why it is not run here."""

SERVES: Final = "oms-webhooks receiver --port 9009 --fail-first 1"
"""A block with this command runs until it is stopped: it is started in the background."""

SHOWS: Final = {
    "oms-webhooks attempts --order R758805215": ("will retry", "delivered", "/hooks"),
    "oms-webhooks attempts --body ROBIN.KELLER": ("R758805215",),
    'curl -g -H "Authorization: Bearer $KEY" "$API/api': ("R758805215",),
}
"""The start of a block, and what it shows once everything is recorded."""

PAGES: Final = [page for page in pages() if page not in OF_A_DEPLOYMENT]


def run_blocks(page: str) -> list[str]:
    """Return the blocks to run."""
    return [block for block in command_blocks(page) if not block.startswith(tuple(NOT_RUN))]


@dataclass(frozen=True)
class Demo:
    """The running demo, with an endpoint and an API key that the pages call 7 and 0a1b2c3d."""

    directory: Path
    environment: dict[str, str]
    replaced: dict[str, str]

    def run(self, block: str) -> str:
        """Run a block, and return what it prints."""
        command = ["bash", "-euo", "pipefail", "-c", self.as_typed(block)]
        run = subprocess.run(
            command, env=self.environment, cwd=self.directory, capture_output=True, text=True, check=False, timeout=120
        )
        assert run.returncode == 0, f"{block}\n{run.stdout}\n{run.stderr}"
        return run.stdout.strip()

    def shows(self, block: str, wanted: Sequence[str]) -> bool:
        """Return whether it prints all expected texts."""
        shown = self.run(block)
        return all(text in shown for text in wanted)

    def start(self, block: str) -> subprocess.Popen[bytes]:
        """Start the program of a block."""
        output = self.directory / "receiver.log"
        # No shell between us and the program, so that it can be stopped.
        typed = self.as_typed(block).replace("oms-webhooks receiver", "exec oms-webhooks receiver")
        command = ["bash", "-euo", "pipefail", "-c", typed]
        with output.open("wb") as stream:
            process = subprocess.Popen(command, env=self.environment, cwd=self.directory, stdout=stream, stderr=stream)
        wait_until(lambda: "Listening" in output.read_text("utf-8"), output.read_text)
        return process

    def as_typed(self, block: str) -> str:
        """Return the block with the reader's values."""
        for pattern, value in self.replaced.items():
            block = re.sub(pattern, value, block)
        return block


def printed(pattern: str, text: str) -> str:
    """Return the first group of a pattern; empty if the text does not match."""
    found = re.search(pattern, text)
    return "" if found is None else str(found[1])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    directory = tmp_path_factory.mktemp("demo")
    log = directory / "demo.log"
    (directory / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\nnoproxy = *\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMS_WEBHOOKS_")} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": ROOT,
        "TMPDIR": str(directory),  # commands find only the pipelines of this directory
        "CURL_HOME": str(directory),
        "COLUMNS": "300",
    }
    with log.open("wb") as stream:
        process = subprocess.Popen([COMMAND, "demo"], env=environment, cwd=directory, stdout=stream, stderr=subprocess.STDOUT)
    try:
        url = wait_until(lambda: printed(r"ready at (\S+)", log.read_text("utf-8")), log.read_text, seconds=START_SECONDS)
        key = wait_until(
            lambda: printed(r"API key for this run: (\S+)", log.read_text("utf-8")), log.read_text, seconds=START_SECONDS
        )
        environment |= {"API": url, "KEY": key, "API_KEY": key}
        yield Demo(directory, environment, {"https://webhooks\\.example\\.com": url, "omsw_…": key})
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module")
def prepared(demo: Demo) -> Demo:
    """Provide the demo with what the pages presuppose."""
    endpoint = printed(
        r"Endpoint (\d+)", demo.run("oms-webhooks endpoints add https://hooks.example.com/7 --event order_completed")
    )
    created = demo.run("oms-webhooks keys create --name revoked --role viewer && oms-webhooks keys list --json")
    key_id = printed(r'"id": "(\w+)"[^}]*"name": "revoked"', created)
    assert endpoint
    assert key_id, created
    certificate = trustme.CA().issue_cert("oms@example.com")
    certificate.cert_chain_pems[0].write_to_path(demo.directory / "client.pem")
    certificate.private_key_pem.write_to_path(demo.directory / "client-key.pem")
    port = free_port()
    replaced = {
        r"(?<=authentication )7\b|(?<=sign )7\b|(?<=certificate )7\b": endpoint,
        "0a1b2c3d": key_id,
        r"\b9009\b": str(port),
        "SECRET=…": "SECRET=secret",
    }
    return Demo(demo.directory, demo.environment, demo.replaced | replaced)


@pytest.fixture
def receivers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start the programs that a page starts in another terminal."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.terminate()
        process.wait(30)


def test_every_reason_is_needed() -> None:
    blocks = [block for page in PAGES for block in command_blocks(page)]
    assert [start for start in (*NOT_RUN, *SHOWS) if not any(block.startswith(start) for block in blocks)] == []


@pytest.mark.parametrize("page", [page for page in PAGES if run_blocks(page)])
def test_the_commands_work_as_written(page: str, prepared: Demo, receivers: list[subprocess.Popen[bytes]]) -> None:
    for block in run_blocks(page):
        if SERVES in block:
            receivers.append(prepared.start(block))
            continue
        wanted = next((texts for start, texts in SHOWS.items() if block.startswith(start)), None)
        if wanted is None:
            assert prepared.run(block), f"nothing is shown by:\n{block}"
        else:
            wait_until(partial(prepared.shows, block, wanted), f"{block} does not show {wanted}")
