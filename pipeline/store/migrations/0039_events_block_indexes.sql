-- One filter for 32 granules (8,192 rows) instead of one for each granule of 256: of 3.7 million events, 455 filters are asked instead of
-- 14,600. To find an order takes a quarter of the time (measured: 49 -> 13 ms of CPU time, a shipment 67 -> 16). Larger blocks gain nothing
-- more, and slow down what is frequent. The old indexes go with 0041. That of stock items stays as it is: 0036 may be building it.
ALTER TABLE events
    ADD INDEX IF NOT EXISTS event_id_blocks event_id TYPE bloom_filter(0.01) GRANULARITY 32,
    ADD INDEX IF NOT EXISTS order_number_blocks order_number TYPE bloom_filter(0.01) GRANULARITY 32,
    ADD INDEX IF NOT EXISTS shipment_numbers_blocks shipment_numbers TYPE bloom_filter(0.01) GRANULARITY 32,
    ADD INDEX IF NOT EXISTS subscription_id_blocks subscription_id TYPE bloom_filter(0.01) GRANULARITY 32
