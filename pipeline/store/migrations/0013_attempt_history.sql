-- For analysts: every attempt without bodies and headers; reads no events, so it is the quick one.
CREATE VIEW IF NOT EXISTS attempt_history AS
SELECT
    id, event_id, event_name, event_created_at, event_received_at, order_number, shipment_numbers, subscription_id,
    stock_item_id, skus, endpoint_id, target_url, attempt, trigger, state, outcome, created_at, duration_ms, first_byte_ms,
    http_status_code, failure, error, next_attempt_at, response_truncated
FROM attempts
