"""Makes a directory of ClickHouse with every table, in a process of its own: an engine opens one directory.

python -m tests.contract.migrated DIRECTORY
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pipeline.ops.settings import Settings
from tests.contract.store_case import opened


async def make(directory: Path) -> None:
    """Make it, and let go of it."""
    async with opened(Settings(clickhouse_path=directory)):
        pass


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
