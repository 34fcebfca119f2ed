"""Describes each table, view and column with a COMMENT in ClickHouse, where analysts and their tools look.

Comments are compared at every start and set if they differ, so a text changes without a migration.
"""

from __future__ import annotations

from typing import Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from pipeline.ops.logs import logger
from pipeline.store.clickhouse_cluster import on_cluster
from pipeline.store.comment_texts import COLUMNS, SHARED, TABLES

log = logger(__name__)

_NOT_ENOUGH_PRIVILEGES: Final = 497


def comment_all(client: Client, cluster: str) -> None:
    """Set the comments that differ. If the right to do so is missing, log it and continue: comments are only for people.

    Raises:
        DatabaseError: ClickHouse refuses for another reason.
    """
    for table, actions in _differences(client).items():
        try:
            client.command(f"ALTER TABLE {table}{on_cluster(cluster)} " + ", ".join(actions))
        except DatabaseError as error:
            if error.code != _NOT_ENOUGH_PRIVILEGES:
                raise
            log.warning("comments of tables are out of date; run `oms-webhooks migrate` as the operator", table=table)
            return


def _differences(client: Client) -> dict[str, list[str]]:
    """The actions of an ALTER, by table. Columns and tables that are not ours keep their comments."""
    actions: dict[str, list[str]] = {}
    of_columns = "SELECT table, name, comment FROM system.columns WHERE database = currentDatabase() ORDER BY table, position"
    for table, column, comment in client.query(of_columns).result_rows:
        text = column_comment(table, column)
        if text and text != comment:
            actions.setdefault(table, []).append(f"COMMENT COLUMN {column} {_quoted(text)}")
    of_tables = "SELECT name, comment FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    for table, comment in client.query(of_tables).result_rows:
        text = TABLES.get(_base(table), "")
        if text and text != comment:
            actions.setdefault(table, []).append(f"MODIFY COMMENT {_quoted(text)}")
    return actions


def column_comment(table: str, column: str) -> str:
    """The text for a column; empty if the column is not ours."""
    base = _base(table)
    return COLUMNS.get(base, {}).get(column) or (SHARED.get(column, "") if base in TABLES else "")


def _base(table: str) -> str:
    return table.removesuffix("_local")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
