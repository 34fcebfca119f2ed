"""ClickHouse: migrations, exactly-once inserts, searches and reports.

The only importer of clickhouse_connect. Uses `core` and `ops`.
Start reading in `writer.py` (how rows get in once) and `search/queries.py` (how they are found).
"""
