"""When certificates expire, as servers present them: also those that have expired or that nobody trusts."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from pipeline.ops import certificates, metrics
from pipeline.ops.certificates import TlsServer, expiry, file_expiry, measure, tls_servers
from pipeline.ops.settings import Settings

AUTHORITY = trustme.CA()
SOON = dt.datetime(2031, 5, 1, tzinfo=dt.UTC)
LONG_AGO = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)


@asynccontextmanager
async def tls_server(not_after: dt.datetime) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("localhost", not_after=not_after).configure_cert(context)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def metric(certificate: str) -> float | None:
    name = "oms_webhooks_certificate_expiry_timestamp_seconds"
    return metrics.registry.get_sample_value(name, {"certificate": certificate})


@pytest.mark.parametrize("not_after", [SOON, LONG_AGO])
async def test_the_certificate_of_a_server(not_after: dt.datetime) -> None:
    async with tls_server(not_after) as port:
        assert await expiry(TlsServer("kafka", "127.0.0.1", port)) == not_after.timestamp()


async def test_of_several_servers_the_first_to_expire_counts(tmp_path: Path) -> None:
    client = tmp_path / "client.pem"
    client.write_bytes(AUTHORITY.issue_cert("client", not_after=SOON).cert_chain_pems[0].bytes())
    async with tls_server(SOON) as one, tls_server(LONG_AGO) as two:
        servers = [TlsServer("kafka", "127.0.0.1", port) for port in (one, two, 9)]  # nobody listens on port 9
        await measure(servers, client)
    assert metric("kafka") == LONG_AGO.timestamp()
    assert metric("kafka-client") == file_expiry(client) == SOON.timestamp()


async def test_an_unreachable_server_keeps_the_last_value(tmp_path: Path) -> None:
    metrics.CERTIFICATE_EXPIRY.labels("clickhouse").set(5)
    await measure([TlsServer("clickhouse", "127.0.0.1", 9)], tmp_path / "missing.pem")
    assert metric("clickhouse") == 5


async def test_an_unreadable_certificate_does_not_prevent_measuring_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(server: TlsServer) -> float:
        if server.name == "clickhouse":
            raise ValueError("error parsing asn1 value")
        return SOON.timestamp()

    monkeypatch.setattr(certificates, "expiry", read)
    await measure([TlsServer("clickhouse", "c", 8443), TlsServer("kafka", "k", 9093)], None)
    assert metric("kafka") == SOON.timestamp()


def test_which_servers_use_tls() -> None:
    settings = Settings(
        kafka_bootstrap_servers="kafka-1:9093, [::1]:9094",
        kafka_security_protocol="SSL",
        clickhouse_url="https://clickhouse.example",
    )
    found = [(server.name, server.host, server.port) for server in tls_servers(settings)]
    assert found == [("kafka", "kafka-1", 9093), ("kafka", "::1", 9094), ("clickhouse", "clickhouse.example", 8443)]
    assert tls_servers(Settings(kafka_bootstrap_servers="k:9092", clickhouse_url="http://c:8123")) == []
