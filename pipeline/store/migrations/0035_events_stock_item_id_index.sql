-- The page of a stock item reads the blocks of its events, not all events of all time.
ALTER TABLE events
    ADD INDEX IF NOT EXISTS stock_item_id_bloom stock_item_id TYPE bloom_filter(0.01)
