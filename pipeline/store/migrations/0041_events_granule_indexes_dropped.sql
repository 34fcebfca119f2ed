-- The indexes of 0039 take their place. ClickHouse removes the files in the background.
ALTER TABLE events
    DROP INDEX IF EXISTS event_id_bloom,
    DROP INDEX IF EXISTS order_number_bloom,
    DROP INDEX IF EXISTS shipment_numbers_bloom,
    DROP INDEX IF EXISTS subscription_id_bloom
