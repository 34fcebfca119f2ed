-- Rows of the releases before: until this is through, their strings are worked out when they are looked at, so that answers are right and
-- take longer. How far it is: SELECT command, parts_to_do, latest_fail_reason FROM system.mutations WHERE NOT is_done (docs/search.md).
-- It reads request_body and writes one small column and its index; the rest of a part stays where it is.
ALTER TABLE events
    MATERIALIZE COLUMN request_body_strings,
    MATERIALIZE INDEX request_body_strings_ngrams
SETTINGS mutations_sync = 0
