-- Records that could not be used, byte for byte: a String column holds any bytes, and NULL is not the same as empty.
CREATE TABLE IF NOT EXISTS dead_letters
(
    reason          LowCardinality(String),
    detail          String CODEC(ZSTD),
    topic           LowCardinality(String),
    partition       Int32 CODEC(ZSTD),
    offset          Int64 CODEC(ZSTD),
    failed_at       DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    record_key      Nullable(String) CODEC(ZSTD),
    record_value    Nullable(String) CODEC(ZSTD(3)),
    headers         Array(Tuple(String, String)) CODEC(ZSTD),
    kafka_partition UInt16 CODEC(ZSTD),
    kafka_offset    Int64 CODEC(Delta, ZSTD),

    PROJECTION positions (SELECT kafka_partition, max(kafka_offset) GROUP BY kafka_partition)
)
ENGINE = MergeTree
PARTITION BY toMonday(failed_at)
ORDER BY failed_at
SETTINGS non_replicated_deduplication_window = 10000,
         ttl_only_drop_parts = 1,
         lightweight_mutation_projection_mode = 'rebuild'
