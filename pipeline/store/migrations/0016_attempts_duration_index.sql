-- "Slowest first" over all time: ClickHouse looks at the blocks with the longest durations, and passes over the others. Parts that are
-- there already get the index when they are merged; at once by: ALTER TABLE attempts MATERIALIZE INDEX duration_ms_minmax.
ALTER TABLE attempts
    ADD INDEX IF NOT EXISTS duration_ms_minmax duration_ms TYPE minmax GRANULARITY 1
