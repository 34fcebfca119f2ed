-- For analysts: every event that was received, without its body, and who should have got it. One row an event.
CREATE VIEW IF NOT EXISTS received_events AS
SELECT
    event_id,
    any(e.event_name)       AS event_name,
    any(e.created_at)       AS created_at,
    min(e.received_at)      AS received_at,
    any(e.order_number)     AS order_number,
    any(e.shipment_numbers) AS shipment_numbers,
    any(e.subscription_id)  AS subscription_id,
    any(e.stock_item_id)    AS stock_item_id,
    any(e.skus)             AS skus,
    groupUniqArrayArray(e.endpoint_ids) AS endpoint_ids,
    count()                 AS dispatches
FROM events AS e
GROUP BY event_id
