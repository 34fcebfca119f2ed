-- Discarded and expired attempts were due and not made. They are counted apart, and their 0 ms stand in no percentile.
-- `attempts` and `failures` go on counting every row of `attempts`, as searches do. `duration_ms` is what was summed before: `answered_ms`
-- takes its place. `classified` and `backfilled` say of how many attempts the outcomes are known: from the feed, and from
-- pipeline/store/backfill.py, which looks the older ones up. `fed_from` says where the feed began in each Kafka partition.
ALTER TABLE attempts_hourly
    ADD COLUMN IF NOT EXISTS discarded SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS expired SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS answered_ms AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), Float64) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS classified SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS backfilled SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS fed_from SimpleAggregateFunction(minMap, Map(UInt16, Int64)) CODEC(ZSTD)
