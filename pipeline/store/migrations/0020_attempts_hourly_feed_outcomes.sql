-- In one step: an insert is counted by the old form or by this one.
ALTER TABLE attempts_hourly_feed MODIFY QUERY
SELECT
    toStartOfHour(created_at)                        AS hour,
    endpoint_id,
    event_name,
    count()                                          AS attempts,
    countIf(state = 'failed')                        AS failures,
    countIf(outcome = 'discarded')                   AS discarded,
    countIf(outcome = 'expired')                     AS expired,
    quantilesTDigestStateIf(0.5, 0.95, 0.99)(duration_ms, outcome NOT IN ('discarded', 'expired')) AS answered_ms,
    count()                                          AS classified,
    minMap(map(kafka_partition, kafka_offset))       AS fed_from
FROM attempts
GROUP BY hour, endpoint_id, event_name
