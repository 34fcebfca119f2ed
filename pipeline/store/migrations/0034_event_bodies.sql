-- For analysts: one row an event, with the body that its endpoints were sent. A condition of the form (lowerUTF8(request_body) LIKE '%…%'
-- OR request_body_strings LIKE '%…%') gets to the indexes of the bodies (0030). LIMIT 1 BY: an event that was dispatched twice (a fan-out
-- died) has the same in all of these columns.
CREATE OR REPLACE VIEW event_bodies AS
SELECT
    event_id, event_name, created_at, received_at, order_number, shipment_numbers, subscription_id, stock_item_id, skus, request_body,
    request_body_strings
FROM events
LIMIT 1 BY
    event_id, event_name, created_at, received_at, order_number, shipment_numbers, subscription_id, stock_item_id, skus, request_body,
    request_body_strings
