"""``oms-webhooks settings --check``: each problem has its own message."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from consumers.cli.settings_check import check_settings
from pipeline.broker.kafka.admin import KafkaTopicAdmin
from pipeline.ops import reachability
from pipeline.ops.settings import Settings
from pipeline.store import diagnosis
from tests.contract.clickhouse_shim import ShimProcess
from tests.contract.store_case import PASSWORD

WRONG = "a-wrong-password"


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **({"kafka_replication_factor": 1} | values))  # type: ignore[arg-type,unused-ignore]


async def problems(chosen: Settings, **more: Any) -> dict[str, str]:
    return {finding.what: finding.problem for finding in await check_settings(chosen, **more) if finding.problem}


async def only_problem(chosen: Settings) -> str:
    [problem] = (await problems(chosen)).values()
    return problem


async def test_a_missing_name() -> None:
    assert "cannot be resolved" in await only_problem(settings(kafka_bootstrap_servers="kafka.invalid:9092"))


async def test_no_server_listens() -> None:
    assert "Connection refused" in await only_problem(settings(kafka_bootstrap_servers="127.0.0.1:9"))


async def test_missing_files(tmp_path: Path) -> None:
    chosen = settings(
        kafka_bootstrap_servers="127.0.0.1:9", kafka_security_protocol="SSL", kafka_ssl_cafile=tmp_path / "missing.pem"
    )
    assert "cannot be used" in await only_problem(chosen)


@pytest.fixture
async def tls_port() -> AsyncIterator[int]:
    """Run a TLS server with an unknown CA."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost", not_after=dt.datetime(2040, 1, 1, tzinfo=dt.UTC)).configure_cert(context)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_an_untrusted_certificate(tls_port: int) -> None:
    chosen = settings(kafka_bootstrap_servers=f"localhost:{tls_port}", kafka_security_protocol="SSL")
    assert "Its certificate is not trusted: " in await only_problem(chosen)


async def test_a_port_without_tls(bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "CONNECT_SECONDS", 0.5)  # the embedded broker does not answer a TLS handshake
    chosen = settings(kafka_bootstrap_servers=bootstrap_servers, kafka_security_protocol="SSL")
    assert "Does this port speak TLS?" in await only_problem(chosen)


async def test_missing_topics_and_then_no_problem(
    bootstrap_servers: str, topic_prefix: str, clickhouse_shim: ShimProcess
) -> None:
    chosen = settings(
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_topic_prefix=topic_prefix,
        clickhouse_url=clickhouse_shim.url,
        clickhouse_password=SecretStr(PASSWORD),
    )
    missing = await problems(chosen)
    assert set(missing) == {f"Kafka: topic {spec.name}" for spec in chosen.topics.specs()}
    assert "run `oms-webhooks topics --create`" in missing[f"Kafka: topic {topic_prefix}oms.orders"]

    def create() -> None:
        with KafkaTopicAdmin(chosen) as admin:
            admin.create_missing(chosen.topics.specs())

    await asyncio.to_thread(create)
    findings = await check_settings(chosen)
    assert [finding for finding in findings if finding.problem] == []
    assert len(findings) > len(chosen.topics.specs()) + 5


async def test_clickhouse_refuses_the_password(bootstrap_servers: str, clickhouse_shim: ShimProcess) -> None:
    chosen = settings(
        kafka_bootstrap_servers=bootstrap_servers, clickhouse_url=clickhouse_shim.url, clickhouse_password=SecretStr(WRONG)
    )
    problem = (await problems(chosen))["ClickHouse: log in as default"]
    assert "wrong user name or password. Check OMS_WEBHOOKS_CLICKHOUSE_USERNAME and OMS_WEBHOOKS_CLICKHOUSE_PASSWORD" in problem
    assert WRONG not in problem


async def test_grants_and_clocks(bootstrap_servers: str, clickhouse_shim: ShimProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test engine has one user with all rights, so its answers about grants are replaced."""
    monkeypatch.setattr(diagnosis, "_granted", lambda _, grant: not grant.startswith(("INSERT", "CREATE DATABASE")))
    chosen = settings(
        kafka_bootstrap_servers=bootstrap_servers,
        clickhouse_url=clickhouse_shim.url,
        clickhouse_password=SecretStr(PASSWORD),
        clickhouse_database="not_there",
    )
    found = await problems(chosen, clock=lambda: dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    assert found["ClickHouse: grant INSERT"] == "It is missing: GRANT INSERT ON not_there.* TO default"
    assert "may not create it" in found["ClickHouse: database not_there"]
    assert found["ClickHouse: clock"].startswith("It is 3600 s ahead of this machine's")
