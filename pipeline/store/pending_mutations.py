"""Mutations that are pending after a migration: ClickHouse rewrites rows of earlier releases in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from clickhouse_connect.driver.client import Client

from pipeline.ops import metrics
from pipeline.ops.logs import logger
from pipeline.store.connection import Connections
from pipeline.store.errors import StoreError

log = logger(__name__)

_EVERY_SECONDS: Final = 15.0

_LEFT: Final = """
SELECT table, max(parts_to_do), anyLast(latest_fail_reason)
FROM system.mutations
WHERE database = currentDatabase() AND NOT is_done AND NOT is_killed AND command LIKE '%MATERIALIZE%'
GROUP BY table
ORDER BY table
"""


@dataclass(frozen=True, slots=True)
class PendingMutation:
    """How many parts of a table are left, and why the last try failed, if it did."""

    table: str
    parts_left: int
    failure: str


async def rebuilds(connections: Connections) -> tuple[PendingMutation, ...]:
    """The pending mutations, by table. On a cluster: those of the node that answers.

    Raises:
        StoreError: ClickHouse cannot be reached, or refuses.
    """

    def ask(client: Client) -> tuple[PendingMutation, ...]:
        return tuple(PendingMutation(table, int(left), failure) for table, left, failure in client.query(_LEFT).result_rows)

    return await connections.read(ask)


async def _pause() -> None:
    await asyncio.sleep(_EVERY_SECONDS)


async def watch_pending_mutations(connections: Connections, pause: Callable[[], Awaitable[None]] = _pause) -> None:
    """Show the remaining parts in the metrics, and log when a rebuild starts, fails and ends. Returns when none is pending."""
    known: dict[str, PendingMutation] = {}
    while True:
        try:
            left = {one.table: one for one in await rebuilds(connections)}
        except StoreError as error:
            log.warning("the progress of ClickHouse's rebuilds is not known", problem=str(error))
        else:
            for table in known.keys() - left.keys():
                metrics.REBUILD_PARTS.labels(table).set(0)
                log.info("ClickHouse has rebuilt a table", table=table)
            for table, one in left.items():
                metrics.REBUILD_PARTS.labels(table).set(one.parts_left)
                if table not in known:
                    log.info(
                        "ClickHouse is rebuilding a table; searches in old rows take longer", table=table, parts=one.parts_left
                    )
                if one.failure and one.failure != (known[table].failure if table in known else ""):
                    log.warning("ClickHouse could not rebuild a part and tries again", table=table, problem=one.failure)
            known = left
            if not left:
                return
        await pause()
