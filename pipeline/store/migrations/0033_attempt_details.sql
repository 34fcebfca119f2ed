-- For analysts: every attempt with the body that was sent; the body is empty while the event is not recorded, or when it was erased.
-- request_body_strings has what a body says and its bytes do not show (0030). A condition of the form (lowerUTF8(request_body) LIKE '%…%'
-- OR request_body_strings LIKE '%…%') gets to the indexes of both: it makes the join an inner one, passes it and the LIMIT BY (whose
-- columns it is about), and only the events that it leaves are joined. The attempts of these are found by their bloom filter when
-- enable_join_runtime_filters_index_analysis is on (deploy/clickhouse/analysts.sql sets it). LIMIT 1 BY: an event that was dispatched twice
-- must not double its attempts; columns that are not named there cannot be looked at before the join. No headers: they hold signatures.
CREATE OR REPLACE VIEW attempt_details AS
SELECT
    a.id AS id, a.event_id AS event_id, a.event_name AS event_name, a.event_created_at AS event_created_at,
    a.event_received_at AS event_received_at, a.order_number AS order_number, a.shipment_numbers AS shipment_numbers,
    a.subscription_id AS subscription_id, a.stock_item_id AS stock_item_id, a.skus AS skus, a.endpoint_id AS endpoint_id,
    a.target_url AS target_url, a.attempt AS attempt, a.trigger AS trigger, a.state AS state, a.outcome AS outcome,
    a.created_at AS created_at, a.duration_ms AS duration_ms, a.first_byte_ms AS first_byte_ms,
    a.http_status_code AS http_status_code, a.failure AS failure, a.error AS error, a.next_attempt_at AS next_attempt_at,
    a.response_body AS response_body, a.response_body_encoding AS response_body_encoding,
    a.response_truncated AS response_truncated, e.request_body AS request_body,
    e.request_body_strings AS request_body_strings
FROM attempts AS a
LEFT JOIN (SELECT event_id AS dispatched_event_id, request_body, request_body_strings FROM events) AS e ON e.dispatched_event_id = a.event_id
LIMIT 1 BY
    id, created_at, event_id, event_name, event_created_at, event_received_at, order_number, shipment_numbers, subscription_id,
    stock_item_id, skus, endpoint_id, target_url, attempt, trigger, state, outcome, duration_ms, first_byte_ms, http_status_code,
    failure, request_body, request_body_strings
