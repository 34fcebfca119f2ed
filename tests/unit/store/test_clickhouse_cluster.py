"""The migrations of a cluster, by golden text; tests/contract runs all of them on the real engine."""

from __future__ import annotations

import re

import pytest

from pipeline.store.clickhouse_cluster import on_cluster, render, render_everywhere, storage_table
from pipeline.store.migrate import bundled_migrations
from pipeline.store.rows import COLUMNS

TABLE = """\
-- A comment that says why.
CREATE TABLE IF NOT EXISTS things
(
    name            String CODEC(ZSTD),
    kafka_partition UInt16 CODEC(ZSTD),
    kafka_offset    Int64,
    PROJECTION positions (SELECT kafka_partition, max(kafka_offset) GROUP BY kafka_partition)
)
ENGINE = MergeTree
ORDER BY name
SETTINGS non_replicated_deduplication_window = 10000,
         ttl_only_drop_parts = 1
"""

LOCAL = """\
-- A comment that says why.
CREATE TABLE IF NOT EXISTS things_local ON CLUSTER 'shop'
(
    name            String CODEC(ZSTD),
    kafka_partition UInt16 CODEC(ZSTD),
    kafka_offset    Int64,
    PROJECTION positions (SELECT kafka_partition, max(kafka_offset) GROUP BY kafka_partition)
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
ORDER BY name
SETTINGS replicated_deduplication_window = 10000,
         replicated_deduplication_window_seconds = 604800,
         ttl_only_drop_parts = 1
"""

DISTRIBUTED = """\
CREATE TABLE IF NOT EXISTS things ON CLUSTER 'shop' AS things_local
ENGINE = Distributed('shop', 'webhooks', 'things_local', kafka_partition)"""


def rendered(sql: str) -> tuple[str, ...]:
    return render(sql, "shop", "webhooks")


def test_a_single_server_gets_the_files_unchanged() -> None:
    for sql in bundled_migrations().values():
        assert render(sql, "", "webhooks") == (sql,)
    assert (storage_table("things", ""), on_cluster(""), render_everywhere(TABLE, "")) == ("things", "", TABLE)


def test_a_table_becomes_a_replicated_one_and_a_distributed_one() -> None:
    assert rendered(TABLE) == (LOCAL, DISTRIBUTED)


def test_a_table_without_positions_has_no_sharding_key_and_accepts_no_writes() -> None:
    local, distributed = rendered(
        "CREATE TABLE IF NOT EXISTS sums\n(\n    n SimpleAggregateFunction(sum, UInt64)\n)\nENGINE = AggregatingMergeTree\nORDER BY n"
    )
    assert "ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')" in local
    assert distributed.endswith("ENGINE = Distributed('shop', 'webhooks', 'sums_local')")


def test_an_engine_keeps_its_arguments() -> None:
    local, _ = rendered("CREATE TABLE IF NOT EXISTS t\n(\n    v Int64\n)\nENGINE = ReplacingMergeTree(v)\nORDER BY v")
    assert "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', v)" in local


def test_columns_are_altered_in_both_tables_and_indexes_in_the_local_one() -> None:
    sql = """\
-- Why.
ALTER TABLE things
    ADD COLUMN IF NOT EXISTS at DateTime64(3, 'UTC') CODEC(Delta, ZSTD) AFTER name,
    ADD INDEX IF NOT EXISTS at_minmax at TYPE minmax GRANULARITY 1
"""
    local, distributed = rendered(sql)
    assert local.startswith("ALTER TABLE things_local ON CLUSTER 'shop'\n    ADD COLUMN")
    assert "ADD INDEX IF NOT EXISTS at_minmax" in local
    assert distributed == (
        "ALTER TABLE things ON CLUSTER 'shop'\n    ADD COLUMN IF NOT EXISTS at DateTime64(3, 'UTC') CODEC(Delta, ZSTD) AFTER name"
    )
    [only] = rendered("ALTER TABLE things\n    ADD INDEX i name TYPE minmax")
    assert only == "ALTER TABLE things_local ON CLUSTER 'shop'\n    ADD INDEX i name TYPE minmax"


def test_a_feed_runs_within_its_shard() -> None:
    sql = "CREATE MATERIALIZED VIEW IF NOT EXISTS feed TO sums AS\nSELECT count() AS n\nFROM things\nGROUP BY name"
    assert rendered(sql) == (
        "CREATE MATERIALIZED VIEW IF NOT EXISTS feed ON CLUSTER 'shop' TO sums_local AS\nSELECT count() AS n\nFROM things_local\nGROUP BY name",
    )


def test_an_altered_feed_stays_within_its_shard() -> None:
    sql = "-- Why.\nALTER TABLE feed MODIFY QUERY\nSELECT count() AS n\nFROM things\nGROUP BY name"
    assert rendered(sql) == (
        "ALTER TABLE feed ON CLUSTER 'shop' MODIFY QUERY\nSELECT count() AS n\nFROM things_local\nGROUP BY name",
    )


@pytest.mark.parametrize("create", ["CREATE VIEW IF NOT EXISTS seen", "CREATE OR REPLACE VIEW seen"])
def test_a_view_reads_all_shards(create: str) -> None:
    assert rendered(f"{create} AS\nSELECT * FROM things") == (f"{create} ON CLUSTER 'shop' AS\nSELECT * FROM things",)


def test_applied_migrations_are_the_same_everywhere() -> None:
    assert render_everywhere(TABLE, "shop") == LOCAL.replace("things_local", "things").replace(
        "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'",
        "'/clickhouse/tables/all/{database}/{table}', '{shard}-{replica}'",
    )


@pytest.mark.parametrize(
    "sql", ["DROP TABLE things", "CREATE TABLE things (a Int64) ENGINE = Memory", "INSERT INTO things SELECT 1"]
)
def test_an_unknown_statement_is_refused(sql: str) -> None:
    with pytest.raises(ValueError, match="a migration is CREATE TABLE"):
        rendered(sql)


def test_every_shipped_migration_is_replicated_on_the_whole_cluster() -> None:
    created = set()
    for name, sql in bundled_migrations().items():
        for statement in rendered(sql):
            assert "ON CLUSTER 'shop'" in statement, name
            assert not re.search(r"ENGINE = (?!Replicated|Distributed)", statement), name
            assert "non_replicated" not in statement, name
            created |= set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", statement))
    assert {name for table in COLUMNS for name in (table.value, f"{table.value}_local")} <= created
