"""A process with ClickHouse in it is killed while it inserts; the next one continues without gaps or duplicates.

The tests take long: processes with ClickHouse start several times, and the first one applies all migrations.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.ops.settings import Settings
from pipeline.store.writer import Table
from tests.contract.clickhouse_shim import ROOT, ShimProcess
from tests.contract.store_case import PASSWORD, Store, http_settings, opened
from tests.contract.store_records import attempt_rows, event_rows

pytestmark = pytest.mark.slow

DATABASE = "crash"

# Appends batch after batch, and reports its progress.
INSERTER = """
import asyncio, sys
from pathlib import Path
from pipeline.ops.settings import Settings
from pipeline.store.writer import Table
from tests.contract.store_case import opened
from tests.contract.store_records import event_rows

async def main():
    settings = Settings(clickhouse_path=Path(sys.argv[1]), clickhouse_database=sys.argv[2])
    async with opened(settings) as store:
        first = await store.writer.assign(Table.EVENTS, 0)
        while True:
            await store.writer.append(Table.EVENTS, 0, event_rows(range(first, first + 50)))
            first += 50
            print(first - 1, flush=True)

asyncio.run(main())
"""


async def stored_offsets(store: Store) -> list[int]:
    return [row[0] for row in await store.rows("SELECT kafka_offset FROM events ORDER BY kafka_offset")]


def insert_until_killed(path: Path, acknowledgements: int) -> int:
    """Run the inserter and kill it (SIGKILL) during its work; returns the last offset that it reported as stored."""
    command = [sys.executable, "-c", INSERTER, str(path), DATABASE]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        last = -1
        for _ in range(acknowledgements):
            last = int(process.stdout.readline())
        process.kill()
        # Offsets reported after the last line that was read.
        rest = process.stdout.read().split()
        return int(rest[-1]) if rest else last


async def test_kill_while_inserting(tmp_path: Path) -> None:
    path = tmp_path / "clickhouse"
    chance = random.Random(3)
    for _ in range(3):
        acknowledged = await asyncio.to_thread(insert_until_killed, path, chance.randint(2, 12))
        shim = ShimProcess(path, PASSWORD)
        await asyncio.to_thread(shim.start)
        try:
            async with opened(http_settings(shim, DATABASE)) as store:
                through = await store.writer.assign(Table.EVENTS, 0) - 1
                assert through >= acknowledged
                assert await stored_offsets(store) == list(range(through + 1))
                # The next recorder gets the same records again, in other batches.
                await store.writer.append(Table.EVENTS, 0, event_rows(range(max(0, through - 20), through + 31)))
                assert await stored_offsets(store) == list(range(through + 31))
        finally:
            await asyncio.to_thread(shim.stop)


async def test_closing_lets_the_next_process_in(tmp_path: Path) -> None:
    path = tmp_path / "clickhouse"
    async with opened(Settings(clickhouse_path=path, clickhouse_database=DATABASE)) as store:
        await store.writer.append(Table.ATTEMPTS, 0, attempt_rows(range(10)))
        shim = ShimProcess(path, PASSWORD)
        with pytest.raises(RuntimeError, match="did not start"):
            await asyncio.to_thread(shim.start)
    shim = ShimProcess(path, PASSWORD)
    await asyncio.to_thread(shim.start)
    try:
        async with opened(http_settings(shim, DATABASE)) as store:
            assert await store.writer.assign(Table.ATTEMPTS, 0) == 10
    finally:
        await asyncio.to_thread(shim.stop)
