-- When the event was received, as events.received_at has it: from an attempt straight to its event's place in the primary key.
-- 1970 where the attempt's record does not say. The index lets a search for late attempts skip where there are none.
ALTER TABLE attempts
    ADD COLUMN IF NOT EXISTS event_received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD) AFTER event_created_at,
    ADD INDEX IF NOT EXISTS event_received_at_minmax event_received_at TYPE minmax GRANULARITY 1
