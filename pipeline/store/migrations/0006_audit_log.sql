-- Who looked at bodies, resent, sent tests, made or revoked API keys. Never a body, a search term or a key. Few rows, kept for good.
CREATE TABLE IF NOT EXISTS audit_log
(
    at              DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    actor           String CODEC(ZSTD),
    role            LowCardinality(String),
    action          LowCardinality(String),
    subject         String CODEC(ZSTD),
    detail          String CODEC(ZSTD),
    remote_address  String CODEC(ZSTD),
    kafka_partition UInt16 CODEC(ZSTD),
    kafka_offset    Int64 CODEC(Delta, ZSTD),
    PROJECTION positions (SELECT kafka_partition, max(kafka_offset) GROUP BY kafka_partition)
)
ENGINE = MergeTree
ORDER BY (at, actor)
SETTINGS non_replicated_deduplication_window = 10000,
         lightweight_mutation_projection_mode = 'rebuild'
