-- For analysts: every attempt with the body that was sent. The attempts stand on the right, because ClickHouse holds the
-- right side of a join in memory: narrow rows, after the filter, while the bodies stream past. ANY: an event that was
-- dispatched twice must not double its attempts. No headers: they hold signatures. Narrow the time: whatever is read is joined.
CREATE OR REPLACE VIEW attempt_details AS
SELECT
    a.id, a.event_id, a.event_name, a.event_created_at, a.event_received_at, a.order_number, a.shipment_numbers,
    a.subscription_id, a.stock_item_id, a.skus, a.endpoint_id, a.target_url, a.attempt, a.trigger, a.state, a.outcome,
    a.created_at, a.duration_ms, a.first_byte_ms, a.http_status_code, a.failure, a.error, a.next_attempt_at,
    a.response_body, a.response_body_encoding, a.response_truncated,
    e.request_body
FROM (SELECT event_id AS dispatched_event_id, request_body FROM events) AS e
ANY RIGHT JOIN attempts AS a ON e.dispatched_event_id = a.event_id
SETTINGS query_plan_join_swap_table = 'false'
