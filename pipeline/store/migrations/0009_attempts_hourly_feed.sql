CREATE MATERIALIZED VIEW IF NOT EXISTS attempts_hourly_feed TO attempts_hourly AS
SELECT
    toStartOfHour(created_at)                        AS hour,
    endpoint_id,
    event_name,
    count()                                          AS attempts,
    countIf(state = 'failed')                        AS failures,
    quantilesTDigestState(0.5, 0.95, 0.99)(duration_ms) AS duration_ms
FROM attempts
GROUP BY hour, endpoint_id, event_name
