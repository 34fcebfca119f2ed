"""``oms-webhooks settings --check``: connects to the servers in the settings, and reports problems, including unknown names."""

from __future__ import annotations

import asyncio

from consumers.cli.command_variables import NON_SETTING_VARIABLES
from pipeline.broker.kafka.diagnosis import kafka_findings
from pipeline.ops.clock import Clock, utc_now
from pipeline.ops.file_descriptors import DescriptorBudget, descriptor_limit
from pipeline.ops.reachability import CheckResult
from pipeline.ops.settings import Settings
from pipeline.ops.settings_sources import unknown_names
from pipeline.sender.address_guard import AddressGuard
from pipeline.sender.egress_proxy_check import egress_proxy_finding
from pipeline.store.diagnosis import clickhouse_findings


async def check_settings(settings: Settings, clock: Clock = utc_now) -> list[CheckResult]:
    """Everything that was checked, in order: unknown names, and the servers that are configured."""
    found = unknown_names(NON_SETTING_VARIABLES)
    limit = descriptor_limit()
    found.append(CheckResult(f"File descriptors: {limit:,}", DescriptorBudget(limit, settings.max_in_flight).problem()))
    if settings.kafka_bootstrap_servers:
        found += await asyncio.to_thread(lambda: list(kafka_findings(settings)))
    if settings.clickhouse_url:
        found += [finding async for finding in clickhouse_findings(settings, clock)]
    if settings.proxy is not None:
        found.append(
            await egress_proxy_finding(settings.proxy, AddressGuard(settings.allowed_networks), settings.resolver_probe_name)
        )
    return found
