-- For analysts: who changed which endpoint when (endpoint_changes without its positions in Kafka).
CREATE VIEW IF NOT EXISTS endpoint_history AS
SELECT endpoint_id, version, change, changed_by, changed_at, target_url, events, active, description, filters
FROM endpoint_changes
