"""``oms-webhooks settings --check``: connects to everything that the settings name, and says what is wrong, with their names too."""

from __future__ import annotations

import asyncio
from typing import Final

from pipeline.broker.kafka.check import kafka_findings
from pipeline.ops.clock import Clock, utc_now
from pipeline.ops.descriptors import Budget, descriptor_limit
from pipeline.ops.reach import Finding
from pipeline.ops.settings import Settings
from pipeline.ops.settings_sources import unknown_names
from pipeline.store.check import clickhouse_findings

NO_SETTINGS: Final = (
    "OMS_WEBHOOKS_API_KEY",
    "OMS_WEBHOOKS_API_URL",
    "OMS_WEBHOOKS_ENDPOINT_TOKEN",
    "OMS_WEBHOOKS_KAFKA_LIBS",
    "OMS_WEBHOOKS_RECEIVER_SECRET",
    "OMS_WEBHOOKS_VERSION",
)
"""Variables of commands (and of deploy/compose.yaml, the last one), which are no settings."""


async def check_settings(settings: Settings, clock: Clock = utc_now) -> list[Finding]:
    """Everything that was looked at, in order; of names only those that mean nothing. Servers only where they are configured."""
    found = unknown_names(NO_SETTINGS)
    limit = descriptor_limit()
    found.append(Finding(f"File descriptors: {limit:,}", Budget(limit, settings.max_in_flight).problem()))
    if settings.kafka_bootstrap_servers:
        found += await asyncio.to_thread(lambda: list(kafka_findings(settings)))
    if settings.clickhouse_url:
        found += [finding async for finding in clickhouse_findings(settings, clock)]
    return found
