"""Drops weeks that are older than ``retention_days``. Dropping them by name is exact, visible and immediate.

ClickHouse's TTL is not used, because a part stores its expiry when it is written. If the limit were raised, the part would still
be dropped at the old time unless all parts were rewritten; if it were lowered, the part would stay. Here the limit is read when a
week is dropped, and the rows store nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from pipeline.ops import metrics
from pipeline.ops.logs import logger
from pipeline.store.clickhouse_cluster import on_cluster, storage_table
from pipeline.store.connection import Connections
from pipeline.store.reader import sql
from pipeline.store.rows import PARTITIONED_BY, Table

log = logger(__name__)

WEEK: Final = timedelta(days=7)
_DROP: Final[dict[str, Any]] = {
    # A week may be larger than the 50 GB that ClickHouse drops without confirmation.
    "max_partition_size_to_drop": 0,
    # A node that does not answer drops it later; the next run finds what is left.
    "distributed_ddl_task_timeout": 20,
}


@dataclass(frozen=True, slots=True)
class Week:
    """One week of a table, which starts on a Monday (UTC), and its number of rows."""

    table: Table
    begins: date
    rows: int


def last_expired_week(now: datetime, days: int) -> date:
    """The Monday of the newest week in which all rows are older than ``days``."""
    end = (now.astimezone(UTC) - timedelta(days=days)).date()
    return end - timedelta(days=end.weekday()) - WEEK


class Retention:
    """How long rows are kept. A week is dropped when its last moment is too old, so a row stays up to seven days longer."""

    def __init__(self, connections: Connections, days: int) -> None:
        self._connections = connections
        self._days = days

    async def expired(self, now: datetime) -> tuple[Week, ...]:
        """The weeks that are expired by our clock and by ClickHouse's, so that one wrong clock deletes nothing.

        Raises:
            StoreError: ClickHouse does not answer, or refuses.
        """
        return await self._connections.read(lambda client: self._expired(client, now))

    async def drop_expired(self, now: datetime) -> tuple[Week, ...]:
        """Drop the expired weeks; returns those that were dropped. Logs and counts each, and reports how many rows are overdue.

        If the process dies, some of the weeks are dropped, and the next run finds the others. If another process is doing the same,
        each week is logged and counted by the one that drops it.

        Raises:
            StoreError: ClickHouse does not answer, or refuses.
        """
        left = list(await self.expired(now))
        dropped = []
        try:
            while left:
                rows = await self._connections.write_concurrently(lambda client: self._drop(client, left[0]))
                week = replace(left.pop(0), rows=rows)
                if not rows:
                    continue  # another recorder was faster
                dropped.append(week)
                metrics.RETENTION_DROPPED.labels(week.table.value).inc(rows)
                log.info(
                    "dropped a week that is older than retention_days",
                    table=week.table.value,
                    week=week.begins.isoformat(),
                    rows=rows,
                    retention_days=self._days,
                )
        finally:
            self._show_overdue(left)
        return tuple(dropped)

    name = "drop weeks that are older than retention_days"

    async def do(self, now: datetime) -> None:
        """Run once (see consumers/maintenance.py)."""
        await self.drop_expired(now)

    def leave(self) -> None:
        """Another process drops weeks now, and reports what is overdue."""
        for table in PARTITIONED_BY:
            metrics.RETENTION_OVERDUE.labels(table.value).set(0)

    def _expired(self, client: Client, now: datetime) -> tuple[Week, ...]:
        [(theirs,)] = client.query("SELECT now64(3, 'UTC')").result_rows
        last = last_expired_week(min(now, theirs), self._days)
        weeks = []
        for table, column in PARTITIONED_BY.items():
            # The parts' indexes answer this: no rows are read.
            week = f"toMonday({column})"
            query = sql(
                "SELECT", week, "AS week, count() FROM", table.value, "WHERE", week, "<= {last:Date} GROUP BY week ORDER BY week"
            )
            found = client.query(query, parameters={"last": last}).result_rows
            weeks += [Week(table, begins, rows) for begins, rows in found]
        return tuple(weeks)

    def _drop(self, client: Client, week: Week) -> int:
        """Drop a week; returns how many rows it has by now, because another recorder may have dropped it."""
        in_week = f"toMonday({PARTITIONED_BY[week.table]})"
        query = sql("SELECT count() FROM", week.table.value, "WHERE", in_week, "= {week:Date}")
        [(rows,)] = client.query(query, parameters={"week": week.begins}).result_rows
        if not rows:
            return 0
        cluster = self._connections.cluster
        name = storage_table(week.table.value, cluster)
        statement = f"ALTER TABLE {name}{on_cluster(cluster)} DROP PARTITION '{week.begins.isoformat()}'"
        client.command(statement, settings=_DROP)
        return int(rows)

    def _show_overdue(self, weeks: list[Week]) -> None:
        for table in PARTITIONED_BY:
            metrics.RETENTION_OVERDUE.labels(table.value).set(sum(week.rows for week in weeks if week.table is table))
