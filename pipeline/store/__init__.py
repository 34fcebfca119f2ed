"""ClickHouse: migrations, inserts, search. The only importer of clickhouse_connect."""
