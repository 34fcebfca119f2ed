"""Finds what is wrong with ClickHouse: its address, the credentials, the grants, its clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC
from typing import Final
from urllib.parse import urlsplit

from clickhouse_connect.driver.client import Client

from pipeline.ops.clock import Clock
from pipeline.ops.reachability import CheckResult, server_finding, tls_context
from pipeline.ops.settings import Settings
from pipeline.store.connection import Connections, StoreError

_SKEW_SECONDS: Final = 5.0
_GRANTS: Final = ("SELECT", "INSERT", "CREATE TABLE", "CREATE VIEW", "ALTER TABLE")


async def clickhouse_findings(settings: Settings, clock: Clock) -> AsyncIterator[CheckResult]:
    """Check everything. Stops at the first step that gets no answer."""
    url = urlsplit(settings.clickhouse_url)
    secure = url.scheme == "https"
    try:
        context = tls_context(settings.clickhouse_ca_file) if secure else None
    except OSError as error:
        yield CheckResult("ClickHouse: TLS files", f"OMS_WEBHOOKS_CLICKHOUSE_CA_FILE cannot be used: {error}")
        return
    reached = server_finding("ClickHouse", url.hostname or "", url.port or (8443 if secure else 8123), context)
    yield reached
    if reached.problem:
        return
    connections = Connections(settings)
    login = f"ClickHouse: log in as {settings.clickhouse_username}"
    try:
        findings = await connections.prepare(lambda client: _inside(client, settings, clock))
    except StoreError as error:
        yield CheckResult(login, str(error))
    else:
        yield CheckResult(login)
        for finding in findings:
            yield finding
    finally:
        await connections.close()


def _inside(client: Client, settings: Settings, clock: Clock) -> list[CheckResult]:
    database = settings.clickhouse_database
    found = []
    exists = client.query("SELECT 1 FROM system.databases WHERE name = {name:String}", parameters={"name": database}).result_rows
    may_create = _granted(client, f"CREATE DATABASE ON {database}.*")
    problem = f"It is missing, and this user may not create it: CREATE DATABASE {database}"
    found.append(CheckResult(f"ClickHouse: database {database}", None if exists or may_create else problem))
    for grant in _GRANTS:
        problem = f"It is missing: GRANT {grant} ON {database}.* TO {settings.clickhouse_username}"
        ok = _granted(client, f"{grant} ON {database}.*")
        found.append(CheckResult(f"ClickHouse: grant {grant}", None if ok else problem))
    there = client.query("SELECT now64(3, 'UTC')").result_rows[0][0].replace(tzinfo=UTC)
    skew = (there - clock()).total_seconds()
    problem = f"It is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's. Synchronize both clocks with NTP: the times of attempts depend on them."
    found.append(CheckResult("ClickHouse: clock", problem if abs(skew) > _SKEW_SECONDS else None))
    return found


def _granted(client: Client, grant: str) -> bool:
    # The database's name has only letters, digits and underscores (settings); CHECK GRANT takes no parameters.
    return bool(client.query(f"CHECK GRANT {grant}").result_rows[0][0])
