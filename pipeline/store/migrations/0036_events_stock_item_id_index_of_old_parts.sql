-- In the background: ClickHouse reads one column and writes the index beside it. Until then the old parts are read as before.
-- system.mutations shows how far it is, and oms_webhooks_clickhouse_rebuild_parts how many parts are left.
ALTER TABLE events
    MATERIALIZE INDEX stock_item_id_bloom
