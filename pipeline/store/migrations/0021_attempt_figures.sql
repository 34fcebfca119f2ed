-- For analysts and dashboards: the rollup, ready to read. Durations are milliseconds. What was discarded or has expired was not attempted: it
-- is no attempt and no failure here. `durations` can be merged over hours, endpoints and event types (docs/analytics.md).
CREATE OR REPLACE VIEW attempt_figures AS
SELECT
    h.hour                                                                            AS hour,
    h.endpoint_id                                                                     AS endpoint_id,
    h.event_name                                                                      AS event_name,
    toUInt64(sum(h.attempts) - sum(h.discarded) - sum(h.expired))                     AS attempts,
    toUInt64(sum(h.failures) - sum(h.discarded) - sum(h.expired))                     AS failures,
    sum(h.discarded)                                                                  AS discarded,
    sum(h.expired)                                                                    AS expired,
    if(sum(h.classified) + sum(h.backfilled) > 0,
        quantilesTDigestMerge(0.5, 0.95, 0.99)(h.answered_ms),
        quantilesTDigestMerge(0.5, 0.95, 0.99)(h.duration_ms))                        AS quantiles_ms,
    if(sum(h.classified) + sum(h.backfilled) > 0,
        quantilesTDigestMergeState(0.5, 0.95, 0.99)(h.answered_ms),
        quantilesTDigestMergeState(0.5, 0.95, 0.99)(h.duration_ms))                   AS durations
FROM attempts_hourly AS h
GROUP BY h.hour, h.endpoint_id, h.event_name
