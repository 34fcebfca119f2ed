-- One row a dispatch: an event as the fan-out saw it, its body, who matched. A fan-out that crashed may dispatch an event
-- again, so an event_id can stand here twice: join with IN or ANY.
--
-- Weeks, not months: searches walk back through time. By received_at, not created_at: the producer chooses the latter.
-- The n-gram index is on the expression: with `lower` it would miss GÜNTHER, and with a preprocessor LIKE ignores it.
-- Small granules: what the index finds is read a granule at a time, and rows are large. Measured on 30,000 events: needles with 20 to
-- 100 hits take a quarter of the time that they take with 8192 rows, for 2.5% more disk.
-- The deduplication window and the projection serve the writer (pipeline/store/writer.py).
CREATE TABLE IF NOT EXISTS events
(
    event_id         String CODEC(ZSTD),
    event_name       LowCardinality(String),
    created_at       DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    received_at      DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    order_number     String CODEC(ZSTD),
    shipment_numbers Array(String) CODEC(ZSTD),
    subscription_id  String CODEC(ZSTD),
    stock_item_id    Nullable(Int64) CODEC(ZSTD),
    skus             Array(String) CODEC(ZSTD),
    endpoint_ids     Array(Int64) CODEC(ZSTD),
    request_body     String CODEC(ZSTD(3)),
    source_topic     LowCardinality(String),
    source_partition Int32 CODEC(ZSTD),
    source_offset    Int64 CODEC(Delta, ZSTD),
    kafka_partition  UInt16 CODEC(ZSTD),
    kafka_offset     Int64 CODEC(Delta, ZSTD),

    INDEX request_body_ngrams lowerUTF8(request_body) TYPE text(tokenizer = ngrams(3)),
    INDEX event_id_bloom event_id TYPE bloom_filter(0.01),
    INDEX order_number_bloom order_number TYPE bloom_filter(0.01),
    INDEX shipment_numbers_bloom shipment_numbers TYPE bloom_filter(0.01),
    PROJECTION positions (SELECT kafka_partition, max(kafka_offset) GROUP BY kafka_partition)
)
ENGINE = MergeTree
PARTITION BY toMonday(received_at)
ORDER BY (received_at, event_id)
SETTINGS index_granularity = 256,
         non_replicated_deduplication_window = 10000,
         ttl_only_drop_parts = 1,
         lightweight_mutation_projection_mode = 'rebuild'
