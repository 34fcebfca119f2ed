"""The alerts for real: Prometheus scrapes the running system; a fault makes an alert fire, and its repair ends it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.deployment import Deployment, simulated_events
from tests.operations.prometheus import RUNBOOKS, watching

pytestmark = [pytest.mark.operations, pytest.mark.timeout(400)]


async def test_clickhouse_goes_down_and_comes_back(deployment: Deployment, tmp_path: Path) -> None:
    async with watching(tmp_path / "prometheus", {name: role.url for name, role in deployment.roles.items()}) as prometheus:
        await prometheus.until("sum(oms_webhooks_role)", 4)
        await prometheus.until('min(oms_webhooks_dependency_up{dependency="clickhouse"})', 1)
        await prometheus.until_silent("OmsWebhooksRoleMissing", "OmsWebhooksClickHouseDown", "OmsWebhooksNotReady")
        assert await prometheus.alerts() == [], "no alert fires"

        deployment.clickhouse.kill()
        alert = await prometheus.until_firing("OmsWebhooksClickHouseDown")
        assert alert["labels"] == {"alertname": "OmsWebhooksClickHouseDown", "severity": "warning", "namespace": "shop"}
        assert alert["annotations"]["runbook_url"] == f"{RUNBOOKS}docs/runbook.md#clickhouse-is-down"
        await deployment.publish(simulated_events(20, seed=6), rate=20)
        await deployment.until_at_work()
        assert "OmsWebhooksKafkaDown" not in {each["labels"]["alertname"] for each in await prometheus.alerts()}

        deployment.clickhouse.start()
        await prometheus.until_silent("OmsWebhooksClickHouseDown", "OmsWebhooksNotReady", "OmsWebhooksRecorderBehind")
        await prometheus.until('sum(oms_webhooks_recorded_rows_total{table="events"})', 20)


async def test_the_fan_out_dies_and_events_are_late(deployment: Deployment, tmp_path: Path) -> None:
    fan_out = deployment.roles["fanout"]
    async with watching(tmp_path / "prometheus", {name: role.url for name, role in deployment.roles.items()}) as prometheus:
        await prometheus.until("sum(oms_webhooks_role)", 4)
        await prometheus.until_silent("OmsWebhooksRoleMissing")

        fan_out.kill()
        alert = await prometheus.until_firing("OmsWebhooksRoleMissing")
        assert (alert["labels"]["role"], alert["labels"]["severity"]) == ("fanout", "critical")
        await deployment.publish(simulated_events(200, seed=7), rate=100)
        published_at = time.monotonic()
        while time.monotonic() < published_at + 6:  # the objective is 5 s, in real time
            await prometheus.until("absent(oms_webhooks_role{role='fanout'})", 1)

        fan_out.start()
        alert = await prometheus.until_firing("OmsWebhooksFirstAttemptsLate")
        assert alert["annotations"]["runbook_url"] == f"{RUNBOOKS}docs/runbook.md#first-attempts-are-late"
        assert "100% of first attempts start more than 5 s after their event" in alert["annotations"]["summary"]
        await prometheus.until_silent("OmsWebhooksRoleMissing")
        # Events are on time again: the short window ends the alert, though the long one still contains late events.
        await deployment.publish(simulated_events(20, seed=8), rate=2)
        await prometheus.until_silent("OmsWebhooksFirstAttemptsLate")
