-- Each part of a table is asked apart, and a week that is over keeps half a dozen for ever. A day after its last row it is merged into one part
-- (7 us of CPU time an attempt, 20 us an event). Measured with 10 million attempts in 27 weeks, 150 parts and 27: the list of attempts takes
-- 48 instead of 58 ms, a search for an e-mail address 173 instead of 310. Parts of more than 150 GB are left as they are.
ALTER TABLE attempts
    MODIFY SETTING min_age_to_force_merge_seconds = 86400,
        min_age_to_force_merge_on_partition_only = 1,
        enable_max_bytes_limit_for_min_age_to_force_merge = 1
