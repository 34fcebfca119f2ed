-- For analysts: every attempt with the body that was sent. The attempts stand on the right, because ClickHouse holds the
-- right side of a join in memory: narrow rows, after the filter, while the bodies stream past. ANY: an event that was
-- dispatched twice must not double its attempts.
CREATE VIEW IF NOT EXISTS attempt_details AS
SELECT a.*, e.request_body
FROM (SELECT event_id AS dispatched_event_id, request_body FROM events) AS e
ANY RIGHT JOIN attempts AS a ON e.dispatched_event_id = a.event_id
SETTINGS query_plan_join_swap_table = 'false'
