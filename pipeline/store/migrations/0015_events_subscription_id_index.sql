-- The page of a subscription reads the blocks of its events, not all events of all time. Parts that are there already get the index when
-- they are merged; at once by: ALTER TABLE events MATERIALIZE INDEX subscription_id_bloom (events_local on a cluster).
ALTER TABLE events
    ADD INDEX IF NOT EXISTS subscription_id_bloom subscription_id TYPE bloom_filter(0.01)
