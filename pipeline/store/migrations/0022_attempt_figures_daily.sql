-- The same by day (UTC). The percentiles are those of the whole day, not a mean of the hours'.
CREATE OR REPLACE VIEW attempt_figures_daily AS
SELECT
    toDate(f.hour)                                                AS day,
    f.endpoint_id                                                 AS endpoint_id,
    f.event_name                                                  AS event_name,
    sum(f.attempts)                                               AS attempts,
    sum(f.failures)                                               AS failures,
    sum(f.discarded)                                              AS discarded,
    sum(f.expired)                                                AS expired,
    quantilesTDigestMerge(0.5, 0.95, 0.99)(f.durations)           AS quantiles_ms,
    quantilesTDigestMergeState(0.5, 0.95, 0.99)(f.durations)      AS durations
FROM attempt_figures AS f
GROUP BY day, f.endpoint_id, f.event_name
