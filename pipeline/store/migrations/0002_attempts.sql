-- One narrow row an attempt, without the body that was sent (events has it, once). Read newest first, backwards along the
-- primary key. Texts without a value are empty, so that they stay small; only numbers and times can be NULL.
CREATE TABLE IF NOT EXISTS attempts
(
    id                     Int64 CODEC(Delta, ZSTD),
    event_id               String CODEC(ZSTD),
    event_name             LowCardinality(String),
    event_created_at       DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    order_number           String CODEC(ZSTD),
    shipment_numbers       Array(String) CODEC(ZSTD),
    subscription_id        String CODEC(ZSTD),
    stock_item_id          Nullable(Int64) CODEC(ZSTD),
    skus                   Array(String) CODEC(ZSTD),
    endpoint_id            Int64 CODEC(ZSTD),
    target_url             LowCardinality(String),
    attempt                UInt8 CODEC(ZSTD),
    trigger                LowCardinality(String),
    state                  LowCardinality(String),
    outcome                LowCardinality(String),
    created_at             DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    duration_ms            Float64 CODEC(ZSTD),
    first_byte_ms          Nullable(Float64) CODEC(ZSTD),
    http_status_code       Nullable(UInt16) CODEC(ZSTD),
    failure                LowCardinality(String),
    error                  String CODEC(ZSTD),
    next_attempt_at        Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD),
    request_headers        Map(String, String) CODEC(ZSTD),
    response_headers       Array(Tuple(String, String)) CODEC(ZSTD),
    response_body          String CODEC(ZSTD(3)),
    response_body_encoding LowCardinality(String),
    response_truncated     Bool CODEC(ZSTD),
    kafka_partition        UInt16 CODEC(ZSTD),
    kafka_offset           Int64 CODEC(Delta, ZSTD),

    INDEX id_minmax id TYPE minmax,
    INDEX event_id_bloom event_id TYPE bloom_filter(0.01),
    INDEX order_number_bloom order_number TYPE bloom_filter(0.01),
    INDEX shipment_numbers_bloom shipment_numbers TYPE bloom_filter(0.01),
    INDEX subscription_id_bloom subscription_id TYPE bloom_filter(0.01),
    INDEX stock_item_id_bloom stock_item_id TYPE bloom_filter(0.01),
    INDEX skus_bloom skus TYPE bloom_filter(0.01),
    PROJECTION positions (SELECT kafka_partition, max(kafka_offset) GROUP BY kafka_partition)
)
ENGINE = MergeTree
PARTITION BY toMonday(created_at)
ORDER BY (created_at, id)
SETTINGS non_replicated_deduplication_window = 10000,
         ttl_only_drop_parts = 1,
         lightweight_mutation_projection_mode = 'rebuild'
