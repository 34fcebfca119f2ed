-- The name of whoever did it, as it was then: a key has an owner, and ids are for machines. Empty in rows of releases before this one.
ALTER TABLE audit_log
    ADD COLUMN IF NOT EXISTS actor_name String CODEC(ZSTD) AFTER actor
