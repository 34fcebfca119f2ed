-- What receivers get as oms-event-key, so that what is sent again has it too. Empty in rows of releases before this one.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS event_key String CODEC(ZSTD) AFTER source_offset
