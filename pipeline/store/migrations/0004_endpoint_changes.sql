-- Who changed which endpoint when, and what it looked like afterwards. Never a secret or a token. Few rows, kept for good.
CREATE TABLE IF NOT EXISTS endpoint_changes
(
    endpoint_id     Int64 CODEC(ZSTD),
    version         Int64 CODEC(ZSTD),
    change          LowCardinality(String),
    changed_by      String CODEC(ZSTD),
    changed_at      DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    target_url      String CODEC(ZSTD),
    events          Array(String) CODEC(ZSTD),
    active          Bool CODEC(ZSTD),
    description     String CODEC(ZSTD),
    filters         String CODEC(ZSTD),
    kafka_partition UInt16 CODEC(ZSTD),
    kafka_offset    Int64 CODEC(Delta, ZSTD),

    PROJECTION positions (SELECT kafka_partition, max(kafka_offset) GROUP BY kafka_partition)
)
ENGINE = MergeTree
ORDER BY (endpoint_id, changed_at)
SETTINGS non_replicated_deduplication_window = 10000,
         lightweight_mutation_projection_mode = 'rebuild'
