#!/bin/sh
# Creates a read-only user for Grafana. ClickHouse's image runs this once, on an empty data directory.
set -eu
password="$(cat /run/secrets/grafana_clickhouse_password)"
own_password="$(cat "${CLICKHOUSE_PASSWORD_FILE:?}")"
clickhouse client --user "${CLICKHOUSE_USER:?}" --password "$own_password" --multiquery <<SQL
CREATE DATABASE IF NOT EXISTS oms_webhooks;
CREATE USER IF NOT EXISTS grafana IDENTIFIED WITH sha256_password BY '$password'
  SETTINGS readonly = 2, max_execution_time = 30, max_memory_usage = 2000000000;
GRANT SELECT ON oms_webhooks.* TO grafana;
SQL
