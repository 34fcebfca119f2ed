"""Measures when the TLS certificates that this process sees or presents expire, so that they are renewed in time."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pipeline.ops import metrics
from pipeline.ops.logs import logger
from pipeline.ops.settings import Settings
from pipeline.ops.settings_kafka import addresses

log = logger(__name__)

EVERY_SECONDS: Final = 600.0
_HANDSHAKE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A TLS server. ``client``: the client certificate, its key and its password, if the server requires one."""

    name: str
    host: str
    port: int
    client: tuple[Path, Path | None, str | None] | None = None


def tls_servers(settings: Settings) -> list[TlsServer]:
    """The TLS servers in the settings; for Kafka, the bootstrap servers."""
    found = []
    if settings.kafka_security_protocol.endswith("SSL"):
        password = settings.kafka_ssl_password.get_secret_value() if settings.kafka_ssl_password else None
        cert = settings.kafka_ssl_certfile
        client = (cert, settings.kafka_ssl_keyfile, password) if cert else None
        found += [TlsServer("kafka", host, port, client) for host, port in addresses(settings.kafka_bootstrap_servers)]
    url = urlsplit(settings.clickhouse_url)
    if url.scheme == "https" and url.hostname:
        found.append(TlsServer("clickhouse", url.hostname, url.port or 8443))
    return found


async def expiry(server: TlsServer) -> float:
    """When a server's certificate expires, in seconds since 1970.

    The certificate is not verified, because an expired one must be read too. Nothing is sent over the connection.

    Raises:
        OSError: the connection failed (including ``ssl.SSLError``).
        TimeoutError: the handshake takes too long.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if server.client is not None:
        certificate, key, password = server.client
        context.load_cert_chain(certificate, key, password)
    async with asyncio.timeout(_HANDSHAKE_SECONDS):
        _, writer = await asyncio.open_connection(server.host, server.port, ssl=context, server_hostname=server.host)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()
        with contextlib.suppress(OSError):  # the certificate is known; how the connection ends does not matter
            await writer.wait_closed()
    from cryptography import x509  # noqa: PLC0415 - a role starts faster without it

    return x509.load_der_x509_certificate(shown).not_valid_after_utc.timestamp()


def file_expiry(path: Path) -> float:
    """When the first certificate of a PEM file expires, in seconds since 1970.

    Raises:
        OSError: the file cannot be read.
        ValueError: it contains no certificate.
    """
    from cryptography import x509  # noqa: PLC0415 - as above

    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()


async def measure(servers: Sequence[TlsServer], client_certificate: Path | None) -> None:
    """Set the metric. If several servers have the same name, the certificate that expires first counts."""
    found: dict[str, float] = {}
    for server in servers:
        try:
            at = await expiry(server)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError; ValueError: the server's certificate is unreadable
            log.info("a certificate could not be read", server=server.name, host=server.host, error=repr(error))
        else:
            found[server.name] = min(at, found.get(server.name, at))
    if client_certificate is not None:
        try:
            found["kafka-client"] = file_expiry(client_certificate)
        except (OSError, ValueError) as error:
            log.warning("the client certificate could not be read", error=repr(error))
    for name, at in found.items():
        metrics.CERTIFICATE_EXPIRY.labels(name).set(at)


async def watch(settings: Settings) -> None:
    """Measure every ten minutes, until cancelled."""
    servers = tls_servers(settings)
    while servers:
        await measure(servers, settings.kafka_ssl_certfile)
        await asyncio.sleep(EVERY_SECONDS)
