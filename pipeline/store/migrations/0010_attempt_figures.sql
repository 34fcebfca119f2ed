-- For analysts and dashboards: the rollup, ready to read. Durations are milliseconds.
CREATE VIEW IF NOT EXISTS attempt_figures AS
SELECT
    hour,
    endpoint_id,
    event_name,
    sum(attempts)                                                AS attempts,
    sum(failures)                                                AS failures,
    quantilesTDigestMerge(0.5, 0.95, 0.99)(attempts_hourly.duration_ms) AS quantiles_ms
FROM attempts_hourly
GROUP BY hour, endpoint_id, event_name
