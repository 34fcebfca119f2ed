"""The example producers of the documentation: real runs of those in Python, and the events of the one in Ruby."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline.devtools.receiver import Receiver
from schemas.event import EventType
from schemas.samples import sample_payload
from tests.bench.search_postgres import Postgres, binaries
from tests.examples.building import EXAMPLES, VENV, require, run
from tests.integration.conftest import Pipeline, StartPipeline, event_bytes
from tests.waiting import until

PATIENCE = 120.0
"""In seconds: an interpreter starts slowly on a busy machine."""

pytestmark = [pytest.mark.examples, pytest.mark.timeout(900)]

PRODUCERS = EXAMPLES / "producers"
COMMAND = str(Path(sys.executable).with_name("oms-webhooks"))
PUT = """
import json, os, psycopg
from events import make_event
from outbox import put
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    for number in range(200):
        put(connection, make_event("order_completed", {"number": f"R{number}", "token": "guest"}, subscription_id="S1"))
    connection.commit()
    put(connection, make_event("order_cancelled", {"number": "R-never"}))
    connection.rollback()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the Python examples with their requirements."""
    here = tmp_path_factory.mktemp("producers") / "python"
    shutil.copytree(PRODUCERS / "python", here)
    for command in VENV:
        run(command, here)
    return here


@pytest.fixture
def database() -> Iterator[str]:
    """Run a PostgreSQL with the outbox table; returns its URL."""
    programs = binaries()
    assert programs, "The example of the outbox needs PostgreSQL: apt-get install postgresql"
    with Postgres(programs) as server:
        server.sql((PRODUCERS / "outbox.sql").read_text())
        yield f"postgresql://bench@127.0.0.1:{server.port}/postgres"


class Process:
    """A Python example in its own process."""

    def __init__(self, here: Path, pipeline: Pipeline, *arguments: str, database: str = "") -> None:
        variables = {
            "KAFKA": pipeline.settings.kafka_bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": pipeline.settings.kafka_topic_prefix,
            "DATABASE_URL": database,
        }
        self._process = subprocess.Popen(
            [str(here / ".venv/bin/python"), *arguments],
            cwd=here,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    async def done(self) -> str:
        """Wait until it succeeds; returns its output."""
        said, _ = await asyncio.to_thread(self._process.communicate, timeout=120)
        assert self._process.returncode == 0, said
        return said

    def kill(self) -> None:
        assert self._process.poll() is None, self._process.communicate()[0]
        self._process.kill()
        self._process.communicate()


async def test_an_event_from_a_file(python: Path, start_pipeline: StartPipeline, tmp_path: Path) -> None:
    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("file")
        file = tmp_path / "event.json"
        file.write_bytes(event_bytes("evt-file", EventType.SHIPMENT_SHIPPED))
        said = await Process(python, pipeline, "publish.py", str(file)).done()
        assert said.startswith(f"{pipeline.settings.topics.shipments}, partition ")
        await until(partial(_arrived, receiver, 1), seconds=PATIENCE)
        assert list(receiver.acknowledgements) == ["evt-file"]


async def test_the_outbox_loses_no_event_and_invents_none(python: Path, database: str, start_pipeline: StartPipeline) -> None:
    async with start_pipeline() as pipeline:
        receiver = await pipeline.receiver("outbox")
        await Process(python, pipeline, "-c", PUT, database=database).done()
        relay = Process(python, pipeline, "outbox.py", database=database)
        await until(partial(_arrived, receiver, 1), seconds=PATIENCE)
        relay.kill()
        await Process(python, pipeline, "-c", PUT.replace('f"R', 'f"S'), database=database).done()
        relay = Process(python, pipeline, "outbox.py", database=database)
        await until(partial(_arrived, receiver, 400), seconds=PATIENCE)
        relay.kill()
        # No event was published twice with different ids.
        assert len(receiver.acknowledgements) == 400
        found = await until(partial(pipeline.attempts, order_number_eq="S199", subscription_id_eq="S1"), seconds=PATIENCE)
        assert found[0]["event_name"] == "order_completed"
        # Rolled back orders have no events.
        assert await pipeline.attempts(order_number_eq="R-never") == []


async def _arrived(receiver: Receiver, count: int) -> bool:
    return len(receiver.acknowledgements) >= count


@pytest.mark.parametrize("language", ["python", "ruby"])
def test_the_events_are_as_documented(language: str, python: Path) -> None:
    samples = json.dumps([[event_type, sample_payload(event_type)] for event_type in EventType])
    if language == "python":
        script = "import json, sys, events\nfor name, data in json.load(sys.stdin): print(events.to_json(events.make_event(name, data)))"
        events = run(["{here}/.venv/bin/python", "-c", script], python, given=samples)
    else:
        require("ruby", "ruby")
        script = "JSON.parse($stdin.read).each { |name, data| puts OmsEvent.row(name, data)[:value] }"
        events = run(["ruby", "-r./oms_event", "-e", script], PRODUCERS / "ruby", given=samples)
    said = run([COMMAND, "publish", "--check", "--strict"], python, given=events)
    assert said.endswith("7 events: all can be delivered, 0 with warnings.\n")


def test_ruby_reads_the_relay() -> None:
    require("ruby", "ruby")
    assert run(["ruby", "-c", "relay.rb"], PRODUCERS / "ruby") == "Syntax OK\n"
