"""``oms-webhooks settings --check``: connects to everything that the settings name, and says what is wrong."""

from __future__ import annotations

import asyncio

from pipeline.broker.check import kafka_findings
from pipeline.ops.clock import Clock, utc_now
from pipeline.ops.reach import Finding
from pipeline.ops.settings import Settings
from pipeline.store.check import clickhouse_findings


async def check_settings(settings: Settings, clock: Clock = utc_now) -> list[Finding]:
    """Everything that was looked at, in order. ClickHouse only where a server is configured."""
    found = await asyncio.to_thread(lambda: list(kafka_findings(settings)))
    if settings.clickhouse_url:
        found += [finding async for finding in clickhouse_findings(settings, clock)]
    return found
