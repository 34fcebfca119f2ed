-- In the background: ClickHouse reads four narrow columns and writes the indexes beside them. Until then, looking up an order in old parts
-- reads one column of them. system.mutations shows how far it is, and oms_webhooks_clickhouse_rebuild_parts how many parts are left.
ALTER TABLE events
    MATERIALIZE INDEX event_id_blocks,
    MATERIALIZE INDEX order_number_blocks,
    MATERIALIZE INDEX shipment_numbers_blocks,
    MATERIALIZE INDEX subscription_id_blocks
