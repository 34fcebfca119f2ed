-- How many attempts, how many failures and how long they took, by hour, endpoint and event type: for charts over years.
-- It outlives the attempts (no TTL). Read it with sum(), and quantilesTDigestMerge(0.5, 0.95, 0.99)(duration_ms), or by the view
-- attempt_figures. The deduplication window makes a batch that is inserted again add nothing here either.
CREATE TABLE IF NOT EXISTS attempts_hourly
(
    hour        DateTime('UTC') CODEC(Delta, ZSTD),
    endpoint_id Int64 CODEC(ZSTD),
    event_name  LowCardinality(String),
    attempts    SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD),
    failures    SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD),
    duration_ms AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), Float64) CODEC(ZSTD)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYear(hour)
ORDER BY (hour, endpoint_id, event_name)
SETTINGS non_replicated_deduplication_window = 10000
