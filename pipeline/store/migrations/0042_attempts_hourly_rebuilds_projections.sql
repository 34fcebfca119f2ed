-- Merges add sums up, so they work out anew what is summed beside them (0043).
ALTER TABLE attempts_hourly
    MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild'
