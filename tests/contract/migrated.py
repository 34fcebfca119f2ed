"""Creates a ClickHouse directory with all tables, in its own process: an engine opens one directory.

python -m tests.contract.migrated DIRECTORY
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pipeline.ops.settings import Settings
from tests.contract.store_case import opened


async def make(directory: Path) -> None:
    """Create it, and close it."""
    async with opened(Settings(clickhouse_path=directory)):
        pass


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1])))
