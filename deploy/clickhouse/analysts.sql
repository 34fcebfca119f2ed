-- A role for analysts: views only, read-only, with limits. Run it once, as an administrator, after the pipeline has created its tables:
--
--     clickhouse-client --multiquery < deploy/clickhouse/analysts.sql
--
-- Run it again after an upgrade: a recreated view has lost its definer, and the limits may have changed. It replaces the limits, so
-- change them here and not in ClickHouse. The last setting of the profile lets a search for bodies in attempt_details read less; leave it
-- out if your ClickHouse does not know it.
--
-- The database is oms_webhooks; change it here if clickhouse_database names another. Then give people the role:
--
--     CREATE USER ada IDENTIFIED WITH sha256_password BY '…' DEFAULT ROLE oms_webhooks_analyst;
--     GRANT oms_webhooks_analyst TO ada;

CREATE SETTINGS PROFILE OR REPLACE oms_webhooks_analyst SETTINGS
    readonly = 1 CONST,
    max_execution_time = 60 CONST,
    timeout_before_checking_execution_speed = 0 CONST,
    max_memory_usage = 4000000000 CONST,
    max_rows_to_read = 2000000000 CONST,
    max_result_rows = 1000000 CONST,
    result_overflow_mode = 'throw' CONST,
    max_threads = 4 CONST,
    enable_join_runtime_filters_index_analysis = 1;

CREATE ROLE IF NOT EXISTS oms_webhooks_analyst SETTINGS PROFILE 'oms_webhooks_analyst';

CREATE QUOTA OR REPLACE oms_webhooks_analyst
    FOR INTERVAL 1 hour MAX queries = 1000, execution_time = 3600
    TO oms_webhooks_analyst;

-- Views, not tables: no request headers (they hold signatures). A view reads its tables with the rights of its definer.
ALTER TABLE oms_webhooks.attempt_history MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;

ALTER TABLE oms_webhooks.attempt_details MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;

ALTER TABLE oms_webhooks.attempt_figures MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;

ALTER TABLE oms_webhooks.attempt_figures_daily MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;

ALTER TABLE oms_webhooks.received_events MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;

ALTER TABLE oms_webhooks.event_bodies MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;

ALTER TABLE oms_webhooks.endpoint_history MODIFY SQL SECURITY DEFINER DEFINER = CURRENT_USER;

GRANT SELECT ON oms_webhooks.attempt_history TO oms_webhooks_analyst;

GRANT SELECT ON oms_webhooks.attempt_details TO oms_webhooks_analyst;

GRANT SELECT ON oms_webhooks.attempt_figures TO oms_webhooks_analyst;

GRANT SELECT ON oms_webhooks.attempt_figures_daily TO oms_webhooks_analyst;

GRANT SELECT ON oms_webhooks.received_events TO oms_webhooks_analyst;

GRANT SELECT ON oms_webhooks.event_bodies TO oms_webhooks_analyst;

GRANT SELECT ON oms_webhooks.endpoint_history TO oms_webhooks_analyst;
